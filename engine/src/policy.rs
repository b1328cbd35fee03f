//! The two kinds of load: the first one, and a reload after a lost device.

use std::rc::Rc;

use gptoss_kernels::{Gpu, GpuOptions};
use gptoss_model::{AwaitPoint, EngineError, Host, LoadProposal, StageError, check_cancelled, until_stopped};

use crate::device::{open_gpu, reopen_gpu};

/// How a load deals with approval and with missing adapters; decided by whoever begins the load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LoadPolicy {
    /// The first load: the host is asked for approval before anything big is allocated or fetched, and again if there
    /// is less memory than planned. A missing adapter is an error.
    First,
    /// A reload after the device was lost: the plan was approved before, and an adapter is waited for.
    AfterLoss,
}

impl LoadPolicy {
    pub(crate) async fn open_gpu(self, options: &GpuOptions, host: &dyn Host) -> Result<Rc<Gpu>, StageError> {
        match self {
            Self::First => open_gpu(options, host).await,
            Self::AfterLoss => reopen_gpu(options, host).await,
        }
    }

    /// Completes when the load may go on as planned.
    pub(crate) async fn approval(self, host: &dyn Host, proposal: LoadProposal<'_>) -> Result<(), EngineError> {
        if self == Self::First {
            until_stopped(host, AwaitPoint::Approval, host.approve(proposal)).await?;
        }
        check_cancelled(host)
    }
}
