//! Several servers as one: who is well, who is asked, and who is asked next if that one fails.

use std::cmp::Reverse;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::join_all;
use serde::Serialize;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, timeout};

use crate::error::UpstreamError;
use crate::prefix::{Blocks, RecentPrompts};
use crate::provider::{Completion, ProvidedModel, Provider, Tokens};

/// A server that has most of a prompt is asked although others are idler, if it is answering at most so many requests more.
const MARGIN_REQUESTS: u64 = 2;

/// After a server failed it is asked how it is this soon, and no sooner.
const CHECK_AFTER_FAILURE: Duration = Duration::from_millis(100);

/// A server that failed a request is asked last of all for so long, although it says that it is well.
const REST: Duration = Duration::from_secs(10);

/// Several servers of one model.
pub struct Pool<P> {
    members: Vec<Member<P>>,
}

struct Member<P> {
    provider: P,
    counts: Arc<Counts>,
}

/// What is known of a server; whoever waits for an answer of it has a hold of this.
struct Counts {
    requests: AtomicU64,
    in_flight: AtomicU64,
    errors: AtomicU64,
    state: Mutex<State>,
    /// It failed.
    alarm: Notify,
}

struct State {
    /// Why no requests go there; `None`: they do.
    reason: Option<String>,
    models: Vec<ProvidedModel>,
    /// Prompts that it began to answer.
    recent: RecentPrompts,
    /// It failed a request not long ago.
    rests_until: Option<Instant>,
}

/// A server as it is at this moment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct MemberState {
    /// Its address.
    pub id: String,
    /// Why no requests go there; `None`: they do.
    pub reason: Option<String>,
    /// Models that it was heard to serve.
    pub models: Vec<ProvidedModel>,
    /// Requests that were sent there.
    pub requests: u64,
    /// Requests that it is answering.
    pub in_flight: u64,
    /// Requests that it failed.
    pub errors: u64,
}

impl Counts {
    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A request that a server is answering; dropped with its answer.
pub(crate) struct Lease(Arc<Counts>);

impl Lease {
    fn new(counts: &Arc<Counts>) -> Self {
        counts.requests.fetch_add(1, Ordering::Relaxed);
        counts.in_flight.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(counts))
    }

    /// The server began to answer: its cache has the prompt.
    fn has_begun(&self, prompt: Blocks) {
        self.0.state().recent.add(prompt);
    }

    /// The server failed the request. What it has in its cache is no reason any more to ask it before others.
    pub fn failed(&mut self, error: &UpstreamError) {
        self.0.errors.fetch_add(1, Ordering::Relaxed);
        let mut state = self.0.state();
        state.recent = RecentPrompts::default();
        state.rests_until = Some(Instant::now() + REST);
        if error.is_about_the_server() {
            state.reason = Some(error.to_string());
            self.0.alarm.notify_one();
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

impl<P: Provider> Member<P> {
    async fn check(&self) {
        let models = match self.provider.is_ready().await {
            Ok(()) => self.provider.list_models().await,
            Err(error) => Err(error),
        };
        let mut state = self.counts.state();
        match models {
            Ok(models) => (state.reason, state.models) = (None, models),
            Err(error) => state.reason = Some(error.to_string()),
        }
    }

    async fn watch(&self, every: Duration) {
        loop {
            if timeout(every, self.counts.alarm.notified()).await.is_ok() {
                sleep(CHECK_AFTER_FAILURE).await;
            }
            self.check().await;
        }
    }
}

impl<P: Provider> Pool<P> {
    /// Servers of which nothing is known: none is asked before [`Pool::check`].
    pub fn new(providers: Vec<P>) -> Self {
        let member = |provider: P| {
            let reason = Some(format!("{} was not asked yet", provider.id()));
            let recent = RecentPrompts::default();
            let state = State { reason, models: Vec::new(), recent, rests_until: None };
            let counts = Counts {
                requests: AtomicU64::new(0),
                in_flight: AtomicU64::new(0),
                errors: AtomicU64::new(0),
                state: Mutex::new(state),
                alarm: Notify::new(),
            };
            Member { provider, counts: Arc::new(counts) }
        };
        Self { members: providers.into_iter().map(member).collect() }
    }

    /// Asks all of them how they are.
    pub async fn check(&self) {
        join_all(self.members.iter().map(Member::check)).await;
    }

    /// Asks all of them how they are, again and again, for ever; soon after it has failed. None waits for another one.
    pub async fn watch(&self, every: Duration) {
        join_all(self.members.iter().map(|member| member.watch(every))).await;
    }

    /// How they are, in the order in which they were given.
    pub fn states(&self) -> Vec<MemberState> {
        let state = |Member { provider, counts }: &Member<P>| {
            let State { reason, models, .. } = &*counts.state();
            MemberState {
                id: provider.id().to_owned(),
                reason: reason.clone(),
                models: models.clone(),
                requests: counts.requests.load(Ordering::Relaxed),
                in_flight: counts.in_flight.load(Ordering::Relaxed),
                errors: counts.errors.load(Ordering::Relaxed),
            }
        };
        self.members.iter().map(state).collect()
    }

    /// The ready server that a prompt goes to, among those that were not `tried`.
    fn choose(&self, prompt: &Blocks, tried: &[usize]) -> Option<usize> {
        let load = |at: usize| self.members[at].counts.in_flight.load(Ordering::Relaxed);
        let requests = |at: usize| self.members[at].counts.requests.load(Ordering::Relaxed);
        let is_ready = |at: &usize| !tried.contains(at) && self.members[*at].counts.state().reason.is_none();
        let ready: Vec<usize> = (0..self.members.len()).filter(is_ready).collect();
        let least = ready.iter().map(|at| load(*at)).min()?;
        let shared = |at: usize| self.members[at].counts.state().recent.shared(prompt);
        // Every prompt begins with the same system message: that alone is no reason to go where another one went.
        let is_worth = |(shared, at): &(usize, usize)| prompt.half_is(*shared) && load(*at) <= least + MARGIN_REQUESTS;
        let holders = ready.iter().map(|at| (shared(*at), *at)).filter(is_worth);
        let most = holders.max_by_key(|(shared, at)| (*shared, Reverse((load(*at), requests(*at)))));
        let now = Instant::now();
        let rests = |at: usize| self.members[at].counts.state().rests_until.is_some_and(|until| now < until);
        most.map(|(_, at)| at).or_else(|| ready.into_iter().min_by_key(|at| (rests(*at), load(*at), requests(*at))))
    }

    fn none_ready(&self) -> UpstreamError {
        let reasons: Vec<String> =
            self.members.iter().filter_map(|member| member.counts.state().reason.clone()).collect();
        UpstreamError::NoneReady { reasons: reasons.join("; ") }
    }
}

impl<P: Provider> Provider for Pool<P> {
    fn id(&self) -> &'static str {
        "upstream"
    }

    async fn is_ready(&self) -> Result<(), UpstreamError> {
        let is_ready = self.members.iter().any(|member| member.counts.state().reason.is_none());
        if is_ready { Ok(()) } else { Err(self.none_ready()) }
    }

    /// Those of all servers that are ready; where several have one, its context is the shortest of theirs.
    async fn list_models(&self) -> Result<Vec<ProvidedModel>, UpstreamError> {
        let mut all: Vec<ProvidedModel> = Vec::new();
        for state in self.states().into_iter().filter(|state| state.reason.is_none()) {
            for model in state.models {
                match all.iter_mut().find(|known| known.id == model.id) {
                    None => all.push(model),
                    Some(known) => {
                        known.context_tokens = [known.context_tokens, model.context_tokens].into_iter().flatten().min();
                    }
                }
            }
        }
        if all.is_empty() { Err(self.none_ready()) } else { Ok(all) }
    }

    /// A completion of whichever server gives the first piece of one.
    async fn complete_stream(&self, wanted: &Completion) -> Result<Tokens, UpstreamError> {
        let prompt = Blocks::of(&wanted.prompt);
        let (mut tried, mut refusals, mut last) = (Vec::new(), Vec::new(), None);
        while let Some(at) = self.choose(&prompt, &tried) {
            tried.push(at);
            let Member { provider, counts } = &self.members[at];
            let mut lease = Lease::new(counts);
            let begun = async {
                let mut tokens = provider.complete_stream(wanted).await?;
                tokens.begin().await?;
                Ok(tokens)
            };
            match begun.await {
                Ok(tokens) => {
                    lease.has_begun(prompt);
                    // What one takes, others were wrong to refuse.
                    refusals.iter_mut().for_each(|(lease, error): &mut (Lease, _)| lease.failed(error));
                    return Ok(tokens.with_lease(lease));
                }
                // The fault may be the server's: another model, another version.
                Err(error @ UpstreamError::Refused { .. }) => refusals.push((lease, error)),
                Err(error) => {
                    lease.failed(&error);
                    last = Some(error);
                }
            }
        }
        let refusal = refusals.into_iter().next().map(|(_, error)| error);
        Err(refusal.or(last).unwrap_or_else(|| self.none_ready()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::provider::{HttpProvider, Limits};

    /// Servers that are taken for ready; none of them is asked anything.
    fn pool(count: u16) -> Pool<HttpProvider> {
        let provider = |port: u16| {
            let address = format!("http://127.0.0.1:{}", port + 1).parse().expect("an address");
            HttpProvider::new(address, None, None, Limits::default())
        };
        let pool = Pool::new((0..count).map(provider).collect());
        pool.members.iter().for_each(|member| member.counts.state().reason = None);
        pool
    }

    fn load(pool: &Pool<HttpProvider>, in_flight: &[u64]) {
        for (member, in_flight) in pool.members.iter().zip(in_flight) {
            member.counts.in_flight.store(*in_flight, Ordering::Relaxed);
        }
    }

    #[test]
    fn the_idlest_is_asked_unless_another_has_the_prompt_and_is_little_busier() {
        let pool = pool(3);
        let prompt = Blocks::of(&[7; 64 * 8]);
        load(&pool, &[2, 1, 1]);
        pool.members[1].counts.requests.store(5, Ordering::Relaxed);
        assert_eq!(pool.choose(&prompt, &[]), Some(2), "of those that are as idle the one that was asked less");
        pool.members[0].counts.state().recent.add(prompt.clone());
        assert_eq!(pool.choose(&prompt, &[]), Some(0));
        load(&pool, &[1 + MARGIN_REQUESTS, 1, 1]);
        assert_eq!(pool.choose(&prompt, &[]), Some(0));
        load(&pool, &[2 + MARGIN_REQUESTS, 1, 1]);
        assert_eq!(pool.choose(&prompt, &[]), Some(2), "it is too busy");
        load(&pool, &[0, 0, 0]);
        // A system message that all have in common is no reason.
        let other: Vec<u32> = [vec![7; 64], vec![8; 64 * 7]].concat();
        assert_eq!(pool.choose(&Blocks::of(&other), &[]), Some(0), "all are as idle: the first");
        load(&pool, &[1, 0, 0]);
        assert_eq!(pool.choose(&Blocks::of(&other), &[]), Some(2));
    }

    #[test]
    fn who_failed_is_left_alone_and_who_was_tried_is_not_tried_again() {
        let pool = pool(2);
        let prompt = Blocks::of(&[7; 64]);
        let first = pool.choose(&prompt, &[]).expect("one of them");
        assert_eq!(first, 0);
        assert_eq!(pool.choose(&prompt, &[0]), Some(1));
        assert_eq!(pool.choose(&prompt, &[0, 1]), None);
        let mut lease = Lease::new(&pool.members[0].counts);
        lease.has_begun(prompt.clone());
        assert_eq!(pool.choose(&prompt, &[]), Some(0), "it has the prompt");
        lease.failed(&UpstreamError::Status { upstream: "a".into(), status: 500, message: String::new() });
        assert_eq!(pool.states()[0].reason, None, "it may do better the next time");
        pool.members[1].counts.requests.store(9, Ordering::Relaxed);
        assert_eq!(pool.choose(&prompt, &[]), Some(1), "it rests, whatever it has and although it did less");
        assert_eq!(pool.choose(&prompt, &[1]), Some(0), "and is asked where nobody else is left");
        lease.failed(&UpstreamError::BrokeOff { upstream: "a".into() });
        drop(lease);
        assert_eq!(pool.choose(&prompt, &[]), Some(1));
        let MemberState { reason, requests, in_flight, errors, .. } = pool.states().remove(0);
        assert!(reason.is_some_and(|reason| reason.contains("broke off")));
        assert_eq!((requests, in_flight, errors), (1, 0, 2));
        pool.members[1].counts.state().reason = Some("b is not well".into());
        let error = pool.none_ready().to_string();
        assert!(error.contains("a broke off") && error.contains("b is not well"), "{error}");
    }
}
