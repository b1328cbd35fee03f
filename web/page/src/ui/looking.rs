//! What the user looks at: a moment, a token, a part of the drawer. It changes nothing of what happens.

use gptoss_protocol::{Recording, Replay};

use crate::action::Tab;
use crate::panels::chat::Choices;
use crate::panels::timeline::{Playhead, moment_of, state_at};
use crate::state::State;

/// Everything that is chosen for looking at.
#[derive(Default)]
pub struct Looking {
    pub chat: Choices,
    /// Token of a turn under the pointer.
    pub pointed: Option<(usize, u32)>,
    /// Token of a turn that was pressed; stays.
    pub pinned: Option<(usize, u32)>,
    pub tab: Option<Tab>,
    /// Cached model that the next press on its button deletes, by its id.
    pub doomed: Option<String>,
    pub playhead: Playhead,
    /// Time of a playing recording that is left until its next event, in milliseconds.
    pub left_ms: f64,
    /// A recording from a file or from an address, with its name.
    pub opened: Option<(String, Recording<State>)>,
    /// What was opened is the picture of a page on which nothing has happened yet: it goes with the first thing that does.
    pub is_idle_picture: bool,
    /// The state at the moment that is shown, and the number of events before it.
    moment: Option<(usize, State)>,
    /// The state when the pressed token had come, if the recording still has that moment.
    pinned_moment: Option<((usize, u32), Option<State>)>,
}

impl Looking {
    /// The token that is looked at.
    pub fn token(&self) -> Option<(usize, u32)> {
        self.pointed.or(self.pinned)
    }

    /// Goes back to what is going on now.
    pub fn go_live(&mut self) {
        self.opened = None;
        self.is_idle_picture = false;
        (self.moment, self.pinned_moment) = (None, None);
        self.playhead = Playhead { speed: self.playhead.speed, ..Playhead::default() };
        (self.pointed, self.pinned) = (None, None);
    }

    /// Shows a recording from its beginning.
    pub fn open(&mut self, name: String, recording: Recording<State>) {
        self.go_live();
        self.opened = Some((name, recording));
        self.playhead = Playhead { at: Some(0), playing: true, speed: self.playhead.speed };
    }

    /// The recording that is shown.
    pub fn recording<'a>(&'a self, own: &'a Recording<State>) -> &'a Recording<State> {
        self.opened.as_ref().map_or(own, |(_, recording)| recording)
    }

    /// Works out the states at the moments that are shown, as far as they are not what is going on now.
    pub fn find_moments(&mut self, own: &Recording<State>, live: &State) {
        self.find_moment(own);
        let Some((turn, place)) = self.pinned else { return self.pinned_moment = None };
        if self.pinned_moment.as_ref().is_some_and(|(known, _)| *known == (turn, place)) {
            return;
        }
        let answer = self.shown(live).all_turns().nth(turn).map(|(_, answer)| answer);
        let token = answer.and_then(|answer| answer.tokens.get(place as usize));
        let recording = self.recording(own);
        let at = token.and_then(|token| moment_of(recording.events(), token));
        self.pinned_moment = Some(((turn, place), at.map(|at| state_at(recording, at))));
    }

    fn find_moment(&mut self, own: &Recording<State>) {
        let Some(at) = self.playhead.at else { return self.moment = None };
        if self.moment.as_ref().is_some_and(|(known, _)| *known == at) {
            return;
        }
        let recording = self.opened.as_ref().map_or(own, |(_, recording)| recording);
        if let Some((known, state)) = self.moment.as_mut().filter(|(known, _)| *known < at) {
            // Time goes on: only what is new has to be taken in.
            recording.events().range(*known..at).for_each(|envelope| state.apply(envelope));
            *known = at;
            return;
        }
        self.moment = Some((at, state_at(recording, at)));
    }

    /// The state that the inside of the model is shown in: that of the pressed token, if there is one.
    pub fn inside<'a>(&'a self, live: &'a State) -> &'a State {
        let pinned = self.pinned_moment.as_ref().and_then(|(_, state)| state.as_ref());
        pinned.unwrap_or_else(|| self.shown(live))
    }

    /// The state that is shown in place of `live`.
    pub fn shown<'a>(&'a self, live: &'a State) -> &'a State {
        self.moment.as_ref().map_or(live, |(_, state)| state)
    }
}
