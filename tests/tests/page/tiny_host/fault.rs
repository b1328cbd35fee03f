//! What can go wrong between a page and a file host.

use std::time::Duration;

/// One fault. Where it can strike in mid-body, the bytes before it are good and arrive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The connection is reset.
    Reset,
    /// The connection is closed in order, though `Content-Length` promised more.
    Closed,
    /// The connection is closed in order, and no `Content-Length` promised anything.
    Short,
    /// Nothing more comes; the connection stays.
    Stall,
    /// More bytes than the range has.
    Long,
    /// `Content-Range` names the bytes from one further on.
    WrongContentRange,
    /// This status instead of 206, with `Retry-After` in seconds; 200 has the whole file as its body.
    Status(u16, Option<u32>),
    OtherEtag,
    /// The file is one byte longer than it was, says `Content-Range`.
    OtherLength,
    /// One bit of the byte is another. Nobody can tell without a hash.
    FlippedBit,
    /// So many bytes of the body are left out; others follow at its end, so that its length is right. Nobody can tell
    /// without a hash but by the bytes themselves.
    Shifted(usize),
    /// The rest of the body comes in this many pieces, with a pause before each.
    Drip(u32, Duration),
    /// Nobody listens any more, and what is under way breaks off: for this long, or until `bring_up`.
    Down(Option<Duration>),
}

/// Which request meets a fault, and where in its body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// The next request but this many; the fault strikes after so many bytes of its body.
    Request { skip: usize, after_bytes: u64 },
    /// The next request that asks for this byte; the fault strikes there.
    Byte(u64),
}

impl When {
    /// The next request, before the first byte of its body.
    pub const NEXT: Self = Self::Request { skip: 0, after_bytes: 0 };
}

/// Faults to come, in order: each waits until the one before it is used up.
#[derive(Debug, Default)]
pub struct Schedule(Vec<Planned>);

#[derive(Clone, Copy, Debug)]
struct Planned {
    when: When,
    fault: Fault,
    /// How many requests meet it, from the first on.
    times: usize,
}

impl Schedule {
    pub fn add(&mut self, when: When, fault: Fault, times: usize) {
        self.0.push(Planned { when, fault, times });
    }

    pub fn clear(&mut self) {
        self.0.clear();
    }

    /// Faults that no request has met yet.
    pub fn left(&self) -> usize {
        self.0.len()
    }

    /// The fault of a request for this range, and after how many bytes of its body it strikes.
    pub fn take(&mut self, (first, last): (u64, u64)) -> Option<(Fault, u64)> {
        let next = self.0.first_mut()?;
        let after_bytes = match &mut next.when {
            When::Request { skip: 0, after_bytes } => *after_bytes,
            When::Request { skip, .. } => {
                *skip -= 1;
                return None;
            }
            When::Byte(at) if (first..=last).contains(at) => *at - first,
            When::Byte(_) => return None,
        };
        let fault = next.fault;
        next.times -= 1;
        if next.times == 0 {
            self.0.remove(0);
        }
        Some((fault, after_bytes))
    }
}
