//! The panels: each is a folder of its own with a pure function from what is known to what is shown, its words and its style. The
//! lists here say which there are and where they stand; `ui::panels` puts them into the document.

pub mod attention;
pub mod cache;
pub mod chat;
pub mod device;
pub mod events;
pub mod experts;
pub mod gate;
pub mod kv;
pub mod memory;
pub mod model;
pub mod network;
pub mod next_token;
pub mod page;
pub mod parts;
pub mod probabilities;
pub mod source;
pub mod stages;
pub mod timeline;
pub mod times;
pub mod work;

use gptoss_protocol::Head;

use crate::action::Tab;
use crate::state::State;
use crate::view::{Node, element};

/// A panel: a frame with a title, what is shown in it, and how that is measured.
pub struct Panel {
    /// One word: the element's id is `panel-NAME`.
    pub name: &'static str,
    /// What stands above it.
    pub title: &'static str,
    /// Id of the line beside the title.
    pub line_id: &'static str,
    /// What stands behind the "?": how its numbers are measured.
    pub how: &'static str,
    /// Rules of its own, for what is in it.
    pub style: &'static str,
    /// What is shown.
    pub view: fn(&Seen<'_>) -> Shown,
}

/// Everything that panels are drawn from.
pub struct Seen<'a> {
    /// What goes on now.
    pub live: &'a State,
    /// The moment that is looked at.
    pub state: &'a State,
    /// The same, or the picture of an idle page: a recording that plays while nothing has happened yet.
    pub picture: &'a State,
    /// The moment that the inside of the model is shown at: that of the pressed token, if there is one.
    pub inside: &'a State,
    /// Token of a turn that is looked at.
    pub token: Option<(usize, u32)>,
    /// Head whose attention is watched.
    pub head: Option<Head>,
    /// Why the head that was asked for cannot be watched.
    pub head_problem: &'a str,
    /// What the page counts of itself.
    pub counted: page::Counted,
    /// What of the event log is shown.
    pub log: events::Summary<'a>,
    /// Cached model that will be deleted with the next press.
    pub doomed: Option<&'a str>,
    /// Milliseconds since 1970 as date and time where the user is.
    pub local_time: fn(f64) -> String,
}

impl<'a> Seen<'a> {
    /// A state, with nothing chosen and nothing counted.
    pub fn nothing(state: &'a State) -> Self {
        const EVERYTHING: &events::Filter = &events::Filter::all();
        Self {
            live: state,
            state,
            picture: state,
            inside: state,
            token: None,
            head: None,
            head_problem: "",
            counted: page::Counted::default(),
            log: events::Summary { filter: EVERYTHING, matching: 0, held: 0, all: 0 },
            doomed: None,
            local_time: |ms| ms.to_string(),
        }
    }
}

/// What a panel shows.
#[derive(Default)]
pub struct Shown {
    /// The most important of it, beside the title.
    pub line: String,
    /// Buttons beside the title.
    pub tools: Vec<Node>,
    /// What is below the title.
    pub body: Vec<Node>,
    /// There is nothing to say yet: all but the title and its line is hidden.
    pub is_empty: bool,
}

/// The panels below the core.
pub const LOW: &[Panel] = &[next_token::PANEL, probabilities::PANEL, attention::PANEL];

/// The panels of a tab.
pub const fn of_tab(tab: Tab) -> &'static [Panel] {
    match tab {
        Tab::Memory => &[memory::PANEL, experts::PANEL, kv::PANEL],
        Tab::Network => &[network::PANEL, cache::PANEL],
        Tab::Stages => &[stages::PANEL, page::PANEL],
        Tab::Work => &[work::PANEL, times::PANEL],
        Tab::Device => &[device::PANEL, model::PANEL],
        Tab::Events => &[events::PANEL],
    }
}

/// All panels that are drawn this way.
pub fn all() -> impl Iterator<Item = &'static Panel> {
    LOW.iter().chain(Tab::ALL.into_iter().flat_map(of_tab))
}

/// The panels' own rules, as one style sheet.
pub fn style() -> String {
    all().map(|panel| panel.style).collect()
}

/// A panel in its frame.
pub fn section(panel: &Panel, seen: &Seen<'_>) -> Node {
    let Shown { line, tools, body, is_empty } = (panel.view)(seen);
    let title = format!("title-{}", panel.name);
    let how = element("details").class("how");
    let how = how
        .child(element("summary").with("aria-label", format!("How this is measured: {}", panel.title)).text("?"))
        .child(element("p").text(panel.how));
    let header = element("header")
        .child(element("h2").id(&*title).text(panel.title))
        .child(element("p").class("panel-fact").id(panel.line_id).text(line))
        .children(tools)
        .child(how);
    let section = element("section").id(format!("panel-{}", panel.name)).class(format!("panel {}", panel.name));
    let section = section.with("aria-labelledby", title).flag("data-empty", is_empty).key(panel.name);
    section.child(header).children(body).into()
}

#[cfg(test)]
pub(crate) mod tests;
