//! Requests that wait for their turn.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;

use gptoss_protocol::{
    CacheOptions, Event, GateSlice, GateWhole, LoadSettings, ModelLocation, NetworkOptions, Prompt, RequestId,
};

use crate::hosts::RequestHost;
use crate::platform::Platform;

/// What takes long.
pub(crate) enum Work<A> {
    Load { model: ModelLocation, options: LoadSettings, prompt: Option<Prompt>, attachment: A },
    Download { model: ModelLocation, network: NetworkOptions, cache: CacheOptions, attachment: A },
    Gate { model: ModelLocation, slice: Option<GateSlice>, whole: Option<GateWhole>, attachment: A },
    Answer(Prompt),
    Count(Prompt),
}

/// Work and the request that it is for.
pub(crate) struct Waiting<P: Platform> {
    pub host: Rc<RequestHost<P>>,
    pub work: Work<P::Attachment>,
    /// It was told that it waits.
    told: bool,
}

/// Work in the order in which it was asked for, and what is under way.
pub(crate) struct Queue<P: Platform> {
    waiting: RefCell<VecDeque<Waiting<P>>>,
    running: RefCell<Vec<Rc<RequestHost<P>>>>,
}

impl<P: Platform> Default for Queue<P> {
    fn default() -> Self {
        Self { waiting: RefCell::default(), running: RefCell::default() }
    }
}

impl<P: Platform> Queue<P> {
    pub fn push(&self, host: Rc<RequestHost<P>>, work: Work<P::Attachment>) {
        self.waiting.borrow_mut().push_back(Waiting { host, work, told: false });
    }

    pub fn is_empty(&self) -> bool {
        self.waiting.borrow().is_empty()
    }

    /// The next work, which is under way from here on.
    pub fn begin_next(&self) -> Option<Waiting<P>> {
        self.begin_if(|_| true)
    }

    /// The next work if it is a question.
    pub fn begin_question(&self) -> Option<(Rc<RequestHost<P>>, Prompt)> {
        let Waiting { host, work, .. } = self.begin_if(|work| matches!(work, Work::Answer(_)))?;
        match work {
            Work::Answer(prompt) => Some((host, prompt)),
            Work::Load { .. } | Work::Download { .. } | Work::Gate { .. } | Work::Count(_) => None,
        }
    }

    /// The first prompt that is to be counted by the model that is loaded now.
    pub fn begin_count(&self) -> Option<(Rc<RequestHost<P>>, Prompt)> {
        let mut waiting = self.waiting.borrow_mut();
        let of_this_model = |waiting: &&Waiting<P>| !matches!(waiting.work, Work::Load { .. });
        let of_this_model = waiting.iter().take_while(of_this_model);
        let at = of_this_model.enumerate().find(|(_, waiting)| matches!(waiting.work, Work::Count(_)))?.0;
        match waiting.remove(at)? {
            Waiting { host, work: Work::Count(prompt), .. } => {
                self.running.borrow_mut().push(Rc::clone(&host));
                Some((host, prompt))
            }
            _ => None,
        }
    }

    fn begin_if(&self, is_wanted: impl Fn(&Work<P::Attachment>) -> bool) -> Option<Waiting<P>> {
        let mut waiting = self.waiting.borrow_mut();
        waiting.front().filter(|first| is_wanted(&first.work))?;
        let next = waiting.pop_front()?;
        self.running.borrow_mut().push(Rc::clone(&next.host));
        Some(next)
    }

    pub fn ended(&self, id: RequestId) {
        self.running.borrow_mut().retain(|host| host.id != id);
    }

    /// The request that is under way, if it is a single one.
    pub fn only_running(&self) -> Option<RequestId> {
        match &self.running.borrow()[..] {
            [host] => Some(host.id),
            _ => None,
        }
    }

    /// Says so to requests that wait and were not told.
    pub fn tell_waiting(&self) {
        let running = self.running.borrow().len();
        let mut told = Vec::new();
        for (at, waiting) in self.waiting.borrow_mut().iter_mut().enumerate() {
            if !std::mem::replace(&mut waiting.told, true) {
                told.push((Rc::clone(&waiting.host), (running + at) as u32));
            }
        }
        for (host, before) in told {
            host.tell(Event::Queued { before });
        }
    }

    /// Requests that are under way, `id` or all of them.
    pub fn running(&self, id: Option<RequestId>) -> Vec<Rc<RequestHost<P>>> {
        self.running.borrow().iter().filter(|host| id.is_none_or(|id| host.id == id)).cloned().collect()
    }

    /// Takes requests out that wait, `id` or all of them.
    pub fn withdraw(&self, id: Option<RequestId>) -> Vec<Rc<RequestHost<P>>> {
        let mut waiting = self.waiting.borrow_mut();
        let (gone, left): (VecDeque<_>, VecDeque<_>) =
            waiting.drain(..).partition(|waiting| id.is_none_or(|id| waiting.host.id == id));
        *waiting = left;
        gone.into_iter().map(|waiting| waiting.host).collect()
    }
}
