//! What is waited for: reads, submitted work and allocations, each with a limit; and what a device says of its end.

use std::time::Duration;

use gptoss_model::GpuError;
use gptoss_source::pause;

use super::{Gpu, GpuBuffer, Submission, held_up, unanswered};
use crate::patience::within;
use crate::platform;

/// How long to wait for the lost-device callback after an error, at a time; [`LOSS_PAUSES`] times at most.
const LOSS_PAUSE: Duration = Duration::from_millis(10);
const LOSS_PAUSES: u32 = 10;

/// A point in the queue of a device, behind everything that was submitted before it was made.
pub struct Mark(futures_channel::oneshot::Receiver<()>);

/// A buffer that is mapped or about to be, and is unmapped when this is dropped.
struct Mapping<'a>(&'a wgpu::Buffer);

impl Drop for Mapping<'_> {
    fn drop(&mut self) {
        self.0.unmap();
    }
}

impl Gpu {
    /// Reads the first `size_bytes` of a buffer made with `MAP_READ`, once all work submitted before is done. If the
    /// future is dropped early, the buffer stays as it was: the work goes on, and its result is lost.
    ///
    /// # Errors
    /// [`GpuError::DeviceLost`] also when the read is refused without a reason, or does not end: not every browser
    /// tells of every loss.
    pub async fn read_mapped(&self, staging: &GpuBuffer, size_bytes: u64) -> Result<Vec<u8>, GpuError> {
        self.read_within(self.pace.unmeasured_limit(), staging, size_bytes, None).await.map(|(bytes, _)| bytes)
    }

    /// Like [`Gpu::read_mapped`], but waits for `submission` alone. `units`, of the caller's choice, say how much work
    /// it is; with the times of similar work they limit the wait.
    pub async fn read_work(
        &self,
        staging: &GpuBuffer,
        size_bytes: u64,
        submission: &Submission,
        units: u64,
    ) -> Result<Vec<u8>, GpuError> {
        let read = self.read_within(self.pace.limit(units), staging, size_bytes, Some(submission));
        let (bytes, elapsed) = read.await?;
        self.pace.took(units, elapsed);
        Ok(bytes)
    }

    async fn read_within(
        &self,
        limit: Duration,
        staging: &GpuBuffer,
        size_bytes: u64,
        submission: Option<&Submission>,
    ) -> Result<(Vec<u8>, Duration), GpuError> {
        let (sender, receiver) = futures_channel::oneshot::channel();
        staging.raw().map_async(wgpu::MapMode::Read, 0..size_bytes, move |result| {
            // The receiver is gone only if the caller was cancelled, and then nobody waits.
            drop(sender.send(result));
        });
        let _mapping = Mapping(staging.raw());
        let (outcome, elapsed) = self.settled(limit, "reading back", submission, receiver).await?;
        let refusal = match outcome {
            _ if self.testbed.as_ref().is_some_and(|testbed| testbed.refuses_read()) => {
                Some("the test does".to_owned())
            }
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(error.to_string()),
            Err(_) => Some("the mapping was dropped".to_owned()),
        };
        if let Some(detail) = refusal {
            return Err(self.refused(detail).await);
        }
        self.check()?;
        let mapped = staging.raw().get_mapped_range(0..size_bytes);
        let bytes = mapped.map_err(|error| GpuError::Internal { detail: error.to_string() })?.to_vec();
        Ok((bytes, elapsed))
    }

    /// Reads part of a buffer through a copy: for tests and for what a user asked to see, not for the decode path.
    pub async fn read(&self, buffer: &GpuBuffer, offset_bytes: u64, size_bytes: u64) -> Result<Vec<u8>, GpuError> {
        let staging = self.staging("read", size_bytes);
        let mut encoder = self.encoder("read");
        encoder.copy_buffer_to_buffer(buffer.raw(), offset_bytes, staging.raw(), 0, size_bytes);
        self.submit(encoder);
        self.read_mapped(&staging, size_bytes).await
    }

    /// Waits until everything submitted before this call is done, however late the future is awaited.
    pub fn finished(&self) -> impl Future<Output = Result<(), GpuError>> {
        let mut mark = self.mark();
        async move { self.reached(&mut mark).await }
    }

    /// Marks the end of what was submitted before this call.
    pub fn mark(&self) -> Mark {
        let (sender, receiver) = futures_channel::oneshot::channel();
        self.queue.on_submitted_work_done(move || {
            // The receiver is gone only if the caller was cancelled.
            let _ignored = sender.send(());
        });
        Mark(receiver)
    }

    /// Waits until everything before a mark is done. If the future is dropped early, it can be called again; afterwards
    /// it cannot.
    pub async fn reached(&self, mark: &mut Mark) -> Result<(), GpuError> {
        match self.settled(self.pace.unmeasured_limit(), "submitted work", None, &mut mark.0).await? {
            (Ok(()), _) => self.check(),
            (Err(_), _) => Err(self.refused("the queue dropped its callback".to_owned()).await),
        }
    }

    /// Runs `allocate` under out-of-memory and validation scopes and reports what it could not get.
    pub async fn probe_memory<T>(&self, what: &str, bytes: u64, allocate: impl FnOnce() -> T) -> Result<T, GpuError> {
        let validation = self.device.push_error_scope(wgpu::ErrorFilter::Validation);
        let memory = self.device.push_error_scope(wgpu::ErrorFilter::OutOfMemory);
        let allocated = allocate();
        let limit = self.pace.unmeasured_limit();
        let (out_of_memory, _) = self.settled(limit, "allocating", None, memory.pop()).await?;
        let (invalid, _) = self.settled(limit, "allocating", None, validation.pop()).await?;
        if self.testbed.as_ref().is_some_and(|testbed| testbed.refuses(self.counts.allocated_bytes())) {
            let detail = "the test's device has no more memory".to_owned();
            return Err(GpuError::OutOfMemory { what: what.to_owned(), bytes, detail });
        }
        match (out_of_memory, invalid) {
            (None, None) => self.check().map(|()| allocated),
            (Some(error), _) | (None, Some(error)) => Err(self.loss().await.unwrap_or_else(|| GpuError::OutOfMemory {
                what: what.to_owned(),
                bytes,
                detail: error.to_string(),
            })),
        }
    }

    /// The one place where this device is waited for: returns the result of `awaited`, and how long it took. What does
    /// not end within `limit` never will, so the device counts as lost then.
    async fn settled<T>(
        &self,
        limit: Duration,
        what: &str,
        submission: Option<&Submission>,
        awaited: impl Future<Output = T>,
    ) -> Result<(T, Duration), GpuError> {
        let turn = async |idle: bool| {
            let turned = platform::turn(&self.device, submission.map(|submission| &submission.0), idle).await;
            // A lost device answers nobody.
            match self.check() {
                Err(lost @ GpuError::DeviceLost { .. }) if idle => Err(lost),
                _ => turned.map_err(|detail| GpuError::Internal { detail }),
            }
        };
        match within(limit, held_up(self.testbed.as_ref(), awaited), turn).await? {
            Some(settled) => Ok(settled),
            None => Err(self.give_up(format!("{what}: {}", unanswered(limit)))),
        }
    }

    /// The reason why a read was refused: possibly a loss that the browser did not report.
    async fn refused(&self, detail: String) -> GpuError {
        if let Some(loss) = self.loss().await {
            return loss;
        }
        self.check().err().unwrap_or_else(|| self.give_up(format!("reading back was refused: {detail}")))
    }

    /// Treats the device as lost.
    fn give_up(&self, detail: String) -> GpuError {
        let lost = GpuError::DeviceLost { reason: "no answer".to_owned(), detail };
        *self.fault.lock().expect("nothing panics while holding this lock") = Some(lost.clone());
        self.device.destroy();
        lost
    }

    /// The first fault that the device reported outside of any scope, or its loss. The fault stays, because a device
    /// with a fault is not used again.
    pub fn check(&self) -> Result<(), GpuError> {
        match self.fault.lock().expect("nothing panics while holding this lock").as_ref() {
            Some(fault) => Err(fault.clone()),
            None => Ok(()),
        }
    }

    /// The loss of the device, if that caused an error. The callback may come after the error itself, so this waits for
    /// a moment.
    pub async fn loss(&self) -> Option<GpuError> {
        for _ in 0..LOSS_PAUSES {
            platform::run_callbacks(&self.device);
            if let Err(lost @ GpuError::DeviceLost { .. }) = self.check() {
                return Some(lost);
            }
            pause(LOSS_PAUSE).await;
        }
        None
    }
}
