//! What every state of the page must be, at every size and in both themes: free of what axe-core finds, and not wider than
//! the window. Pictures of it go to target/screenshots/, with state, size and theme in their names.
//!
//! The window is told another size and theme over DevTools, so that one load shows a state in all of them.

use browser_driver::Browser;
use serde_json::{Value, json};

use crate::session::Session;

/// axe-core, as its package has it.
const AXE: &str = include_str!("../../axe/axe.min.js");

/// Runs what `arguments[0]` says, and gives each violation with the elements it is about.
const RUN_AXE: &str = "const done = arguments[arguments.length - 1]; \
     axe.run(document, { resultTypes: ['violations'], ...arguments[0] }).then( \
         ({ violations }) => done(violations.map(({ id, impact, nodes }) => \
             `${id} (${impact}): ` + nodes.map(({ target, any }) => \
                 `${target.join(' ')} ${any.map(({ message }) => message).join(' ')}`).join('; '))), \
         (error) => done([String(error)]));";

/// Width and height of a desk's, a tablet's and a phone's window, in CSS pixels.
const SIZES: [(u32, u32); 3] = [DESK, (1024, 768), PHONE];
const DESK: (u32, u32) = (1440, 900);
const PHONE: (u32, u32) = (390, 844);

/// The narrowest that the page must fit: of WCAG's success criterion 1.4.10.
const NARROWEST: (u32, u32) = (320, 640);

const THEMES: [&str; 2] = ["dark", "light"];

/// How far the document can be scrolled, to the right and down, in CSS pixels, and what sticks out to the right.
const OVERFLOW: &str = "const { scrollWidth, clientWidth, scrollHeight, clientHeight } = document.documentElement; \
     const out = [...document.querySelectorAll('body *')].filter((element) => { \
         const { width, right } = element.getBoundingClientRect(); return width > 0 && right > clientWidth + 0.5; }); \
     return [scrollWidth - clientWidth, scrollHeight - clientHeight, \
         out.slice(0, 6).map(({ tagName, id, className }) => `${tagName} #${id} .${className}`)];";

/// Whether all of an element is in the window and nothing lies over its middle.
const IS_IN_VIEW: &str = "const element = document.querySelector(arguments[0]); \
     const { left, top, right, bottom, width, height } = element.getBoundingClientRect(); \
     const over = document.elementFromPoint(left + width / 2, top + height / 2); \
     return [width > 0 && left >= 0 && top >= 0 && right <= innerWidth && bottom <= innerHeight && element.contains(over), \
         left, top, right, bottom, over?.id ?? over?.tagName];";

/// What is asked of one state.
#[derive(Clone, Copy, Debug)]
pub struct Look {
    /// What the pictures are called.
    pub state: &'static str,
    /// The button that a user needs now: in view without scrolling, also on a phone.
    pub button: &'static str,
    /// All of the page is in a desk's window at once.
    pub fits_desk: bool,
}

impl Look {
    /// Fails on what [`Look::wrong`] finds.
    pub async fn check(&self, session: &Session) {
        let wrong = self.wrong(session).await;
        assert!(wrong.is_empty(), "{wrong:#?}");
    }

    /// What axe finds in either theme, and what does not fit. Takes the pictures.
    pub async fn wrong(&self, session: &Session) -> Vec<String> {
        let browser = &session.browser;
        let mut wrong = Vec::new();
        for theme in THEMES {
            set_theme(browser, theme).await;
            for size in SIZES {
                set_size(browser, size).await;
                drawn(browser).await;
                if size == DESK {
                    wrong.extend(violations(browser, theme).await.into_iter().map(|found| format!("{theme}: {found}")));
                }
                let (width, height) = size;
                session.screenshot(&format!("{}-{width}x{height}-{theme}", self.state)).await;
                // What fits in one theme fits in the other.
                if theme == THEMES[0] {
                    wrong.extend(self.overflow(browser, size).await);
                }
            }
        }
        set_size(browser, NARROWEST).await;
        drawn(browser).await;
        wrong.extend(self.overflow(browser, NARROWEST).await);
        end(browser).await;
        wrong.into_iter().map(|found| format!("{}: {found}", self.state)).collect()
    }

    async fn overflow(&self, browser: &Browser, size: (u32, u32)) -> Vec<String> {
        let mut wrong = Vec::new();
        let overflow = browser.eval(OVERFLOW, vec![]).await.expect("script");
        if overflow[0] != json!(0) || (self.fits_desk && size == DESK && overflow[1] != json!(0)) {
            wrong.push(format!("{size:?}: the document can be scrolled by {overflow} CSS pixels"));
        }
        if size == DESK || size == PHONE {
            let seen = browser.eval(IS_IN_VIEW, vec![json!(self.button)]).await.expect("script");
            if seen[0] != json!(true) {
                wrong.push(format!("{size:?}: {} is not in view: {seen}", self.button));
            }
        }
        wrong
    }
}

/// What axe finds in both themes, of every tab of the drawer, opened one after the other; a picture of each.
pub async fn wrong_in_tabs(session: &Session) -> Vec<String> {
    let browser = &session.browser;
    let names = "return [...document.querySelectorAll('#tabs [data-do]')].map((tab) => tab.dataset.do.split(' ')[1]);";
    let names = browser.eval(names, vec![]).await.expect("script");
    let names: Vec<&str> = names.as_array().expect("a list").iter().filter_map(Value::as_str).collect();
    assert!(names.len() >= 6, "{names:?}");
    set_size(browser, DESK).await;
    let mut wrong = Vec::new();
    for name in names {
        session.open_tab(name).await;
        for theme in THEMES {
            set_theme(browser, theme).await;
            drawn(browser).await;
            wrong.extend(violations(browser, theme).await.into_iter().map(|found| format!("{name}, {theme}: {found}")));
        }
        session.screenshot(&format!("tab-{name}")).await;
        session.browser.click(&format!("[data-do='tab {name}']")).await.expect("the drawer can be closed");
    }
    end(browser).await;
    wrong
}

/// What axe finds in the sheets of options, each opened once.
pub async fn wrong_in_sheets(session: &Session) -> Vec<String> {
    let browser = &session.browser;
    set_size(browser, DESK).await;
    let mut wrong = Vec::new();
    for name in ["sheet", "load-sheet"] {
        browser.eval(&format!("document.getElementById('{name}').showPopover();"), vec![]).await.expect("script");
        for theme in THEMES {
            set_theme(browser, theme).await;
            drawn(browser).await;
            wrong.extend(violations(browser, theme).await.into_iter().map(|found| format!("{name}, {theme}: {found}")));
        }
        session.screenshot(name).await;
        browser.eval(&format!("document.getElementById('{name}').hidePopover();"), vec![]).await.expect("script");
    }
    end(browser).await;
    wrong
}

/// In the second theme only colours can be wrong in another way.
async fn violations(browser: &Browser, theme: &str) -> Vec<String> {
    if browser.eval("return typeof axe === 'undefined';", vec![]).await.expect("script") == true {
        browser.devtools("Runtime.evaluate", json!({ "expression": AXE })).await.expect("axe");
    }
    let options = if theme == THEMES[0] { json!({}) } else { json!({ "runOnly": ["color-contrast"] }) };
    let found = browser.eval_async(RUN_AXE, vec![options]).await.expect("axe");
    found.as_array().expect("a list").iter().map(|found| found.as_str().expect("text").to_owned()).collect()
}

async fn set_size(browser: &Browser, (width, height): (u32, u32)) {
    let size = json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": false });
    browser.devtools("Emulation.setDeviceMetricsOverride", size).await.expect("a size");
}

async fn set_theme(browser: &Browser, theme: &str) {
    let media = json!({ "features": [{ "name": "prefers-color-scheme", "value": theme }] });
    browser.devtools("Emulation.setEmulatedMedia", media).await.expect("a theme");
}

/// The window's own size and theme again.
async fn end(browser: &Browser) {
    browser.devtools("Emulation.setEmulatedMedia", json!({ "features": [] })).await.expect("no theme");
    browser.devtools("Emulation.clearDeviceMetricsOverride", json!({})).await.expect("no size");
    drawn(browser).await;
}

/// Waits until the page has drawn itself anew, which it does at most every 66 ms, and until what changes over time, as colours
/// do, is what it will be. That is asked at every frame: the `finished` of a transition that another one replaces in the meantime
/// can stay open for ever.
pub async fn drawn(browser: &Browser) {
    let script = "const done = arguments[0]; \
         const frame = () => new Promise(requestAnimationFrame); \
         const wait = async () => { \
             await frame(); \
             await new Promise((goOn) => setTimeout(goOn, 70)); \
             await frame(); \
             await frame(); \
             const moves = ({ effect, playState }) => \
                 effect.getComputedTiming().endTime < Infinity && (playState === 'running' || playState === 'pending'); \
             while (document.getAnimations().some(moves)) await frame(); \
         }; \
         wait().then(() => done(true));";
    browser.eval_async(script, vec![]).await.expect("it draws");
}
