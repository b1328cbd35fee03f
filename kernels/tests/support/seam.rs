//! The one place where native and browser tests differ.

/// Lanes to a row: as on a GPU, and as on a software adapter.
pub const GEOMETRIES: [u32; 2] = [8, 1];

/// Opens a device for tests; a missing adapter is a failure, never a skip. Where the test does not say, kernels run as they do
/// on a GPU, although the adapter here is most likely a software one.
pub async fn open(options: &gptoss_kernels::GpuOptions) -> gptoss_kernels::Gpu {
    let lanes_per_row = options.lanes_per_row.or(Some(GEOMETRIES[0]));
    match gptoss_kernels::Gpu::open(&gptoss_kernels::GpuOptions { lanes_per_row, ..options.clone() }).await {
        Ok(gpu) => gpu,
        Err(error) => panic!(
            "{error}\nThese tests need a WebGPU adapter, a software one will do. Natively install a Vulkan driver, for example \
             Mesa's lavapipe (Debian: apt-get install mesa-vulkan-drivers); in Chromium see kernels/webdriver.json."
        ),
    }
}

#[cfg(not(target_arch = "wasm32"))]
mod platform {
    /// Prints a line of the report.
    pub fn print(line: &str) {
        println!("{line}");
    }

    /// A size here, and in the browser, where the software adapter is many times slower.
    pub const fn sized(native: usize, _browser: usize) -> usize {
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

    /// Prints a line of the report.
    pub fn print(line: &str) {
        wasm_bindgen_test::console_log!("{line}");
    }

    /// A size natively, and here, where the software adapter is many times slower.
    pub const fn sized(_native: usize, browser: usize) -> usize {
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
pub use platform::{print, sized};
