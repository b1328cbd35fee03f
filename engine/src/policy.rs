//! How a load is gone about: at first, and again after a lost device.

use std::rc::Rc;

use gptoss_kernels::{Gpu, GpuOptions};
use gptoss_model::{AwaitPoint, EngineError, Host, LoadProposal, StageError, check_cancelled, until_stopped};

use crate::device::{open_gpu, reopen_gpu};

/// Given once, by whoever begins a load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LoadPolicy {
    /// The host is asked for its approval before anything big is allocated or fetched, and again when less memory turns out to
    /// be there. No adapter is an error.
    First,
    /// What was approved of is loaded again, after its device was lost: nobody is asked, and an adapter is waited for.
    AfterLoss,
}

impl LoadPolicy {
    pub(crate) async fn open_gpu(self, options: &GpuOptions, host: &dyn Host) -> Result<Rc<Gpu>, StageError> {
        match self {
            Self::First => open_gpu(options, host).await,
            Self::AfterLoss => reopen_gpu(options, host).await,
        }
    }

    /// Ends when the load may go on as planned.
    pub(crate) async fn approval(self, host: &dyn Host, proposal: LoadProposal<'_>) -> Result<(), EngineError> {
        if self == Self::First {
            until_stopped(host, AwaitPoint::Approval, host.approve(proposal)).await?;
        }
        check_cancelled(host)
    }
}
