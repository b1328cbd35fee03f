//! The order in which experts are read. Plain bookkeeping that knows neither files nor GPUs.

use std::collections::VecDeque;

/// Why experts are read. Reasons named first are more urgent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason {
    /// A batch waits for the experts.
    Missed,
    /// A batch is likely to need the experts when it reaches their layer.
    Predicted,
    /// Nothing else is to be read.
    Idle,
}

/// Experts of one layer that come together, by reads of type `R`.
#[derive(Debug)]
pub struct Request<R> {
    pub id: u64,
    pub layer: usize,
    pub experts: Vec<u32>,
    pub reason: Reason,
    /// Reads that have not begun.
    waiting: VecDeque<R>,
    under_way: usize,
}

/// All unfinished requests.
pub struct Queue<R> {
    requests: Vec<Request<R>>,
    next_id: u64,
}

impl<R> Default for Queue<R> {
    fn default() -> Self {
        Self { requests: Vec::new(), next_id: 0 }
    }
}

impl<R> Queue<R> {
    pub fn add(&mut self, layer: usize, experts: Vec<u32>, reason: Reason, reads: impl IntoIterator<Item = R>) {
        let waiting = reads.into_iter().collect();
        self.requests.push(Request { id: self.next_id, layer, experts, reason, waiting, under_way: 0 });
        self.next_id += 1;
    }

    /// The read to begin next, with the id of its request: the oldest of the most urgent ones.
    pub fn next(&mut self) -> Option<(u64, R)> {
        let request = self.most_urgent()?;
        let read = request.waiting.pop_front().expect("it has some");
        request.under_way += 1;
        Some((request.id, read))
    }

    /// The reason of the read to begin next.
    pub fn next_reason(&mut self) -> Option<Reason> {
        self.most_urgent().map(|request| request.reason)
    }

    fn most_urgent(&mut self) -> Option<&mut Request<R>> {
        let waiting = self.requests.iter_mut().filter(|request| !request.waiting.is_empty());
        waiting.min_by_key(|request| (request.reason, request.id))
    }

    /// Notes that a read has ended. Returns the request if that was its last read.
    pub fn came(&mut self, id: u64) -> Option<Request<R>> {
        let index = self.requests.iter().position(|request| request.id == id)?;
        let request = &mut self.requests[index];
        request.under_way -= 1;
        (request.under_way == 0 && request.waiting.is_empty()).then(|| self.requests.remove(index))
    }

    /// Makes the requests for these experts urgent, because a batch waits for some of them.
    pub fn promote(&mut self, layer: usize, experts: &[u32]) {
        let brings = |request: &&mut Request<R>| {
            request.layer == layer && request.experts.iter().any(|expert| experts.contains(expert))
        };
        self.requests.iter_mut().filter(brings).for_each(|request| request.reason = Reason::Missed);
    }

    /// Removes and returns requests that are no longer wanted.
    pub fn take(&mut self, which: impl Fn(&Request<R>) -> bool) -> Vec<Request<R>> {
        self.requests.extract_if(.., |request| which(request)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(queue: &mut Queue<&'static str>) -> Vec<&'static str> {
        std::iter::from_fn(|| queue.next().map(|(_, read)| read)).collect()
    }

    #[test]
    fn missed_before_predicted_before_idle_and_older_before_newer() {
        let mut queue = Queue::default();
        queue.add(0, vec![0], Reason::Idle, ["idle"]);
        queue.add(2, vec![1], Reason::Predicted, ["predicted 1", "predicted 2"]);
        queue.add(1, vec![2], Reason::Missed, ["missed"]);
        queue.add(1, vec![3], Reason::Missed, ["missed later"]);
        assert_eq!(queue.next_reason(), Some(Reason::Missed));
        assert_eq!(order(&mut queue), ["missed", "missed later", "predicted 1", "predicted 2", "idle"]);
        assert_eq!(queue.next_reason(), None);
    }

    #[test]
    fn what_a_batch_waits_for_goes_first_wherever_it_was() {
        let mut queue = Queue::default();
        queue.add(0, vec![0, 1], Reason::Predicted, ["predicted"]);
        queue.add(3, vec![5], Reason::Idle, ["idle elsewhere"]);
        queue.add(3, vec![6, 7], Reason::Idle, ["idle"]);
        queue.promote(3, &[1, 7]);
        assert_eq!(order(&mut queue), ["idle", "predicted", "idle elsewhere"]);
    }

    #[test]
    fn a_request_is_done_with_its_last_read() {
        let mut queue = Queue::default();
        queue.add(4, vec![8, 9], Reason::Missed, ["a", "b"]);
        let (id, _) = queue.next().expect("a");
        assert!(queue.came(id).is_none(), "the other has not begun");
        let (same, _) = queue.next().expect("b");
        assert_eq!(same, id);
        let done = queue.came(id).expect("both are there");
        assert_eq!((done.layer, done.experts), (4, vec![8, 9]));
        assert!(queue.came(id).is_none(), "it is gone");
    }

    #[test]
    fn what_is_taken_out_is_not_begun() {
        let mut queue = Queue::default();
        queue.add(0, vec![0], Reason::Idle, ["idle"]);
        queue.add(1, vec![1], Reason::Missed, ["missed"]);
        let taken = queue.take(|request| request.reason == Reason::Idle);
        assert_eq!(taken.iter().map(|request| request.layer).collect::<Vec<_>>(), [0]);
        assert_eq!(order(&mut queue), ["missed"]);
    }
}
