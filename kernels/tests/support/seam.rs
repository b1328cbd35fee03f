//! The one place where native and browser tests differ.

use gptoss_kernels::operation::Geometry;
use gptoss_kernels::{Gpu, GpuOptions, Operation, Tier};

/// Lanes to a row: as on a GPU, and as on a software adapter.
pub const GEOMETRIES: [u32; 2] = [8, 1];

/// Opens a device for tests; a missing adapter is a failure, never a skip. Where the test does not say, kernels run as
/// they do on a GPU, although the adapter here is most likely a software one.
pub async fn open(options: &GpuOptions) -> Gpu {
    let lanes_per_row = options.lanes_per_row.or(Some(GEOMETRIES[0]));
    match Gpu::open(&GpuOptions { lanes_per_row, ..options.clone() }).await {
        Ok(gpu) => gpu,
        Err(error) => panic!(
            "{error}\nThese tests need a WebGPU adapter, a software one will do. Natively install a Vulkan driver, for example \
             Mesa's lavapipe (Debian: apt-get install mesa-vulkan-drivers); in Chromium see kernels/webdriver.json."
        ),
    }
}

/// A device for each tier that has kernels of its own for `operation`, beginning with the baseline. Which of them the
/// adapter has not, and what it lacks, is said.
pub async fn open_tiers(options: &GpuOptions, operation: Operation) -> Vec<Gpu> {
    let highest = open(options).await;
    let geometry = Geometry { lanes_per_row: highest.lanes_per_row() };
    let tiers: Vec<Tier> = operation.variants(geometry).iter().map(|variant| variant.tier).collect();
    let mut devices = Vec::new();
    for tier in Tier::ALL.into_iter().filter(|tier| tiers.contains(tier)) {
        match highest.granted().missing(tier) {
            Some(missing) => {
                print(&format!("NOT TESTED HERE: {operation} of tier {tier}: the adapter lacks {missing}"))
            }
            None => devices.push(open(&GpuOptions { tier: Some(tier), ..options.clone() }).await),
        }
    }
    devices
}

#[cfg(not(target_arch = "wasm32"))]
mod platform {
    /// Prints a line of the report.
    pub fn print(line: &str) {
        println!("{line}");
    }

    /// The source for the native compiler: wgpu's own does not know the directive.
    pub fn wgsl(source: &str) -> &str {
        source.strip_prefix(gptoss_kernels::sources::ENABLE_SUBGROUPS).unwrap_or(source)
    }

    /// A size here, and in the browser, where the software adapter is many times slower.
    pub const fn sized<T: Copy>(native: T, _browser: T) -> T {
        native
    }

    /// Registers an async function as a test.
    macro_rules! gpu_test {
        ($(#[$doc:meta])* async fn $name:ident() $body:block) => {
            $(#[$doc])*
            #[test]
            fn $name() {
                pollster::block_on(async $body);
            }
        };
    }
    pub(crate) use gpu_test;
}

#[cfg(target_arch = "wasm32")]
mod platform {
    wasm_bindgen_test::wasm_bindgen_test_configure!(run_in_dedicated_worker);

    /// The source for the browser's compiler.
    pub fn wgsl(source: &str) -> &str {
        source
    }

    /// Prints a line of the report.
    pub fn print(line: &str) {
        wasm_bindgen_test::console_log!("{line}");
    }

    /// A size natively, and here, where the software adapter is many times slower.
    pub const fn sized<T: Copy>(_native: T, browser: T) -> T {
        browser
    }

    /// Registers an async function as a test.
    macro_rules! gpu_test {
        ($(#[$doc:meta])* async fn $name:ident() $body:block) => {
            $(#[$doc])*
            #[wasm_bindgen_test::wasm_bindgen_test]
            async fn $name() $body
        };
    }
    pub(crate) use gpu_test;
}

pub(crate) use platform::gpu_test;
pub use platform::{print, sized, wgsl};
