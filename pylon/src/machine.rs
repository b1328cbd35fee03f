//! The machine: processor, threads, memory.

use gptoss_cpu::Isa;
use serde::Serialize;

/// What the CPU backend finds on this machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Machine {
    pub system: String,
    pub architecture: &'static str,
    pub processor: String,
    /// Threads that the system lets this process run at once.
    pub threads: usize,
    /// The instruction set the CPU backend will use.
    pub instruction_set: String,
    /// All instruction sets of the CPU backend that this processor has, by the names that `pylon bench --isa` takes.
    pub instruction_sets: Vec<&'static str>,
    /// The processor's vector instructions that were found.
    pub simd: Vec<&'static str>,
    /// Main memory; `None` if the system does not tell.
    pub memory: Option<Memory>,
}

/// Main memory that this process may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Memory {
    pub total_bytes: u64,
    /// Memory that can be used without swapping, as the system estimates it.
    pub available_bytes: u64,
}

impl Machine {
    /// Looks at the machine now.
    pub fn look() -> Self {
        let (processor, memory) = sysinfo::System::new().map_or_else(|_| (None, None), ask);
        Self {
            system: sysinfo::System::long_os_version().unwrap_or_else(|_| std::env::consts::OS.to_owned()),
            architecture: std::env::consts::ARCH,
            processor: processor.unwrap_or_else(|| "unknown".to_owned()),
            threads: threads(),
            instruction_set: Isa::detect().to_string(),
            instruction_sets: Isa::available().into_iter().map(Isa::name).collect(),
            simd: simd(),
            memory,
        }
    }
}

/// The processor's name, and memory.
fn ask(mut system: sysinfo::System) -> (Option<String>, Option<Memory>) {
    system.refresh_memory();
    system.refresh_cpu_list(sysinfo::CpuRefreshKind::nothing());
    let (mut total_bytes, mut available_bytes) = (system.total_memory(), system.available_memory());
    // Containers may get less than the machine has.
    if let Some(limits) = system.cgroup_limits() {
        total_bytes = total_bytes.min(limits.total_memory);
        available_bytes = available_bytes.min(limits.free_memory);
    }
    let processor = system.cpus().first().map(|cpu| cpu.brand().trim().to_owned()).filter(|brand| !brand.is_empty());
    (processor, (total_bytes > 0).then_some(Memory { total_bytes, available_bytes }))
}

/// Threads that the system lets this process run at once.
pub fn threads() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

#[cfg(target_arch = "x86_64")]
fn simd() -> Vec<&'static str> {
    macro_rules! found {
        ($($feature:tt),*) => {
            [$(($feature, std::arch::is_x86_feature_detected!($feature))),*]
        };
    }
    let all = found!(
        "avx",
        "f16c",
        "fma",
        "avx2",
        "avxvnni",
        "avx512f",
        "avx512bw",
        "avx512dq",
        "avx512vl",
        "avx512vnni",
        "avx512bf16",
        "avx512fp16"
    );
    all.into_iter().filter(|(_, has)| *has).map(|(name, _)| name).collect()
}

#[cfg(target_arch = "aarch64")]
fn simd() -> Vec<&'static str> {
    macro_rules! found {
        ($($feature:tt),*) => {
            [$(($feature, std::arch::is_aarch64_feature_detected!($feature))),*]
        };
    }
    let all = found!("neon", "fp16", "dotprod", "i8mm", "bf16", "sve");
    all.into_iter().filter(|(_, has)| *has).map(|(name, _)| name).collect()
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn simd() -> Vec<&'static str> {
    Vec::new()
}
