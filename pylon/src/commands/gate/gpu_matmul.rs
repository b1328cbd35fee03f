//! Gate C: GPU compute. A real matrix of the file, multiplied on the GPU by the kernel that the engine uses, against
//! the scalar reference, which decodes the file's blocks on its own and sums in F64.

use gptoss_engine::open_gpu;
use gptoss_gates::Report;
use gptoss_gates::slice::{self, Slice, Tiers};
use gptoss_kernels::GpuOptions;
use gptoss_model::{Host, Quiet};
use gptoss_protocol::Event;
use indicatif::ProgressBar;

use super::{Common, Opened};
use crate::error::CliError;
use crate::progress;

pub use gptoss_gates::slice::TITLE;

/// GPU compute: a real matrix times a vector, on the GPU and by the scalar reference
///
/// The GPU side is the engine's own path: rows are repacked on the GPU and multiplied by its kernel in F32. The
/// expectation decodes the blocks as they are in the file and sums in F64. The error is relative: ‖gpu − expected‖ /
/// ‖expected‖. A second comparison, with the vector moved by one place, has to fail: it shows that the first one can.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  pylon gate c models/nano/gpt-oss-nano.gguf --tensor blk.0.ffn_gate_exps.weight --rows 512")]
pub struct Args {
    #[command(flatten)]
    pub common: Common,
    /// The matrix; of experts all rows one after the other
    #[arg(long, value_name = "NAME", default_value = "output.weight")]
    tensor: String,
    /// Take only the first N rows; 0 takes all
    #[arg(long, value_name = "N", default_value_t = 0)]
    rows: u64,
    /// Take only the first N columns, in whole blocks; 0 takes all
    #[arg(long, value_name = "N", default_value_t = 0)]
    columns: u64,
    /// Largest relative error that passes
    #[arg(long, value_name = "X", default_value_t = slice::USUAL_TOLERANCE)]
    tolerance: f64,
}

/// Shows how far the slice is.
struct Bar(ProgressBar);

impl Host for Bar {
    fn emit(&self, event: Event) {
        if let Event::GateProgress(progress) = event {
            self.0.set_position(progress.fetched_bytes);
        }
    }

    fn cancelled(&self) -> bool {
        false
    }
}

pub fn check(args: &Args, report: &mut Report) -> Result<(), CliError> {
    let file = Opened::open(&args.common.path)?;
    let path = &args.common.path;
    let all_if_zero = |number: u64| (number > 0).then_some(number);
    let wanted = [args.rows, args.columns].map(all_if_zero);
    file.with(|gated| {
        let slice = Slice::of_all_rows(gated, &args.tensor, wanted, args.tolerance);
        let slice = slice.map_err(|error| CliError::of_gate(error, path))?;
        let gpu = pollster::block_on(open_gpu(&GpuOptions::default(), &Quiet))?;
        let bar = Bar(progress::bytes("multiplied", slice.fetched_bytes()));
        let done = pollster::block_on(slice::check(gated, &slice, &gpu, Tiers::Own, report, &bar, &mut |_, _| {}));
        bar.0.finish_and_clear();
        done.map(drop).map_err(|error| CliError::of_gate(error, path))
    })
}
