//! What one kernel costs on one family of GPUs.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use crate::isa::{self, Counts};
use crate::kernels::{self, Kernel};
use crate::radv::{Compiled, Compiler};

/// Figures of a kernel's machine code.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KernelCost {
    /// Vector registers of a lane, as allocated.
    pub vgprs: u64,
    /// Scalar registers of a wave, as allocated.
    pub sgprs: u64,
    /// Registers of either kind that did not fit and were spilled.
    pub spilled: u64,
    /// Scratch memory of a wave, in bytes.
    pub scratch_bytes: u64,
    /// Workgroup memory, in bytes.
    pub lds_bytes: u64,
    /// Length of the machine code, in bytes.
    pub code_bytes: u64,
    pub instructions: u64,
    /// How many waves fit a SIMD at once.
    pub waves_per_simd: u64,
    /// Cycles of issue and stalls, as the driver estimates them for the text run through once.
    pub latency_cycles: u64,
    /// Cycles that a wave keeps its SIMD busy, by the same estimate.
    pub inverse_throughput_cycles: u64,
    /// One round of the loop with the most vector instructions of its own, see [`isa::hottest`].
    pub hottest_loop: Option<Counts>,
    /// Weights that one lane decodes in a round of that loop ([`kernels::Applied::weights_per_round`]), for kernels
    /// that multiply weights. `None` if it is not the loop over blocks: if it has inner or outer loops, writes to
    /// buffers, or uses workgroup memory.
    pub weights_per_round: Option<u64>,
}

/// The figures of all kernels for one family, as its process reports them.
#[derive(Debug, Serialize, Deserialize)]
pub struct FamilyCosts {
    /// Name and version of the driver.
    pub driver: String,
    /// Figures by name of the kernel.
    pub kernels: BTreeMap<String, KernelCost>,
}

impl KernelCost {
    /// Vector instructions per weight in the hottest loop. For a kernel for many tokens, that is for all tokens of its
    /// group.
    pub fn vector_per_weight(&self) -> Option<f64> {
        Some(self.hottest_loop?.vector as f64 / self.weights_per_round? as f64)
    }

    fn new(compiled: &Compiled, weights_per_round: Option<u64>) -> Result<Self> {
        let told = |name: &str| {
            let found = compiled.statistics.iter().find(|(known, _)| known == name).map(|(_, value)| *value);
            found.with_context(|| format!("RADV tells no {name}; this is read from Mesa 22.3.6"))
        };
        let loops = isa::loops(&compiled.isa)?;
        let hottest = isa::hottest(&loops);
        // The loop over blocks is one loop in the WGSL and keeps its sums in registers. With weights that need no
        // decoding, a loop that adds up or writes results may have more instructions.
        let adds_up = |own: &Counts| own.vector_loads > 0 && own.stores == 0 && own.lds == 0;
        let is_of_blocks = hottest.is_some_and(|it| it.is_alone(&loops) && adds_up(&it.own));
        Ok(Self {
            vgprs: told("VGPRs")?,
            sgprs: told("SGPRs")?,
            spilled: told("Spilled VGPRs")? + told("Spilled SGPRs")?,
            scratch_bytes: told("Scratch size")?,
            lds_bytes: told("LDS size")?,
            code_bytes: told("Code size")?,
            instructions: told("Instructions")?,
            waves_per_simd: told("Subgroups per SIMD")?,
            latency_cycles: told("Latency")?,
            inverse_throughput_cycles: told("Inverse Throughput")?,
            hottest_loop: hottest.map(|it| it.own),
            weights_per_round: weights_per_round.filter(|_| is_of_blocks),
        })
    }
}

/// Compiles every kernel for the family that this process's environment names.
///
/// # Errors
/// There is no such driver, or a kernel that it does not compile.
pub fn compile_all() -> Result<FamilyCosts> {
    let compiler = Compiler::open()?;
    let cost = |kernel: Kernel| {
        let applied = kernel.applied()?;
        let compiled = compiler.compile(&applied.spirv()?, kernel.accesses);
        let cost = compiled.and_then(|compiled| KernelCost::new(&compiled, applied.weights_per_round()));
        Ok((kernel.name.clone(), cost.context(kernel.name)?))
    };
    let kernels = kernels::all().into_iter().map(cost).collect::<Result<_>>()?;
    Ok(FamilyCosts { driver: compiler.driver.clone(), kernels })
}
