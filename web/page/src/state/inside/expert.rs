//! What is known of one expert of one layer.

use serde::{Deserialize, Serialize};

/// Where the weights of an expert are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Place {
    /// Not on the GPU, and it never was.
    #[default]
    Absent,
    /// It has a slot on the GPU; its bytes are on their way.
    Awaited,
    /// On the GPU, or in a mapped file.
    Resident,
    /// It gave up its slot for another.
    Evicted,
}

/// One expert: where it is, and what the answer made of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(from = "Compact", into = "Compact")]
pub struct Expert {
    /// Where it is now.
    pub place: Place,
    /// How often it came to the GPU, or was mapped, since the load.
    pub arrivals: u32,
    /// Number of its last miss, counted over all experts from 1 on; 0 if it never was missed.
    pub miss: u32,
    /// Whether a batch waits for it.
    pub is_waited_for: bool,
    /// Tokens of this answer that chose it, those of its prompt included.
    pub uses: u32,
    /// Position of the last token of the last batch that used it.
    pub last_position: Option<u32>,
    /// The weight that it had then, from 0 to 1; of several tokens, the mean over all of the batch.
    pub weight: f32,
    /// Number in this answer of the last batch that used it, from 1 on; 0 before.
    pub last_batch: u32,
    /// When it was used, by the clock of the teller; 0 before.
    pub used_at_ms: f64,
    /// When its place changed, by the clock of the teller; 0 before.
    pub moved_at_ms: f64,
}

impl Expert {
    /// Whether a batch needs it and it is not there.
    pub fn is_missed(&self) -> bool {
        self.is_waited_for && self.place != Place::Resident
    }

    pub(super) fn is_missed_by_batch(&mut self, number: u32, at_ms: f64) {
        (self.miss, self.is_waited_for, self.moved_at_ms) = (number, true, at_ms);
    }

    pub(super) fn is_awaited(&mut self, at_ms: f64) {
        (self.place, self.moved_at_ms) = (Place::Awaited, at_ms);
    }

    pub(super) fn arrives(&mut self, at_ms: f64) {
        if self.place != Place::Resident {
            (self.place, self.moved_at_ms) = (Place::Resident, at_ms);
            self.arrivals += 1;
        }
        self.is_waited_for = false;
    }

    pub(super) fn leaves(&mut self, at_ms: f64) {
        // What was on its way and will not come is told as evicted, too: it is where it was before.
        self.place = if self.arrivals > 0 { Place::Evicted } else { Place::Absent };
        (self.is_waited_for, self.moved_at_ms) = (false, at_ms);
    }

    pub(super) fn is_waited_for_no_more(&mut self) {
        self.is_waited_for = false;
    }

    pub(super) fn forget_uses(&mut self) {
        (self.uses, self.last_position, self.weight, self.last_batch, self.used_at_ms) = (0, None, 0.0, 0, 0.0);
    }

    pub(super) fn forget_place(&mut self) {
        let Self { uses, last_position, weight, last_batch, used_at_ms, .. } = *self;
        *self = Self { uses, last_position, weight, last_batch, used_at_ms, ..Self::default() };
    }
}

/// Thousands of them are in the text of a recording.
type Compact = (Place, u32, u32, bool, u32, Option<u32>, f32, u32, f64, f64);

impl From<Compact> for Expert {
    fn from(compact: Compact) -> Self {
        let (place, arrivals, miss, is_waited_for, uses, last_position, weight, last_batch, used_at_ms, moved_at_ms) =
            compact;
        Self { place, arrivals, miss, is_waited_for, uses, last_position, weight, last_batch, used_at_ms, moved_at_ms }
    }
}

impl From<Expert> for Compact {
    fn from(expert: Expert) -> Self {
        let Expert {
            place,
            arrivals,
            miss,
            is_waited_for,
            uses,
            last_position,
            weight,
            last_batch,
            used_at_ms,
            moved_at_ms,
        } = expert;
        (place, arrivals, miss, is_waited_for, uses, last_position, weight, last_batch, used_at_ms, moved_at_ms)
    }
}
