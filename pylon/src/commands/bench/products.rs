//! `pylon bench --products`: one product of a matrix and a vector for each quantised type of a file, from blocks as they
//! are, and by way of weights that are decoded to memory first.

use std::fmt;
use std::time::Duration;

use gptoss_cpu::{CpuOptions, Isa, ProductMatrix, time_products};
use gptoss_gguf::{TensorInfo, WeightType};
use gptoss_protocol::units::three_digits;
use serde::Serialize;

use crate::backend::LoadRequest;
use crate::error::CliError;
use crate::gguf_file::GgufFile;
use crate::machine;

/// Decoded weights take at most so many bytes: more than caches hold, and little of what a machine has.
const DECODED_BYTES: u64 = 256 << 20;

/// The products of all types.
#[derive(Debug, Serialize)]
pub struct Products {
    file: String,
    threads: usize,
    isa: &'static str,
    repeat: u32,
    products: Vec<Product>,
}

/// Times of a type's product, in microseconds.
#[derive(Debug, Serialize)]
struct Product {
    tensor: String,
    #[serde(rename = "type")]
    kind: &'static str,
    rows: u64,
    columns: u64,
    fused_int8_us: f64,
    fused_f32_us: f64,
    decode_us: f64,
    multiply_us: f64,
    /// Decoding and multiplying, over the fused product with the same activations.
    times_fused: f64,
    /// The largest difference between these two, over the largest result.
    difference: f32,
}

impl Products {
    /// Measures the largest matrix of each type that the file has.
    ///
    /// # Errors
    /// The file cannot be read, or has no such type.
    pub fn of(request: &LoadRequest, repeat: u32) -> Result<Self, CliError> {
        let file = GgufFile::open_model(&request.path)?;
        let isa = request.isa.unwrap_or_else(Isa::detect);
        let threads = request.threads.unwrap_or_else(machine::threads);
        let options = CpuOptions { threads: Some(threads), isa: Some(isa), ..CpuOptions::default() };
        let products = WeightType::ALL.into_iter().filter_map(|kind| Some((kind, largest(&file, kind)?)));
        let products = products
            .map(|(kind, tensor)| product(&file, kind, tensor, &options, repeat))
            .collect::<Result<Vec<_>, _>>()?;
        if products.is_empty() {
            return Err(CliError::Argument {
                what: "--products".into(),
                got: format!("{}, all of whose matrices are in F32, F16 or BF16", request.path.display()),
                expected: "a file with quantised matrices".into(),
            });
        }
        let file = request.path.display().to_string();
        Ok(Self { file, threads, isa: isa.name(), repeat, products })
    }
}

/// The matrix of a quantised type with the most weights.
fn largest(file: &GgufFile, kind: WeightType) -> Option<&TensorInfo> {
    let has_type = |tensor: &&TensorInfo| tensor.kind == kind.kind() && tensor.shape.len() > 1 && !tensor.is_empty();
    let matrices = file.gguf.tensors.iter().filter(has_type);
    matrices.max_by_key(|tensor| tensor.elements()).filter(|_| kind.is_quantised())
}

fn product(
    file: &GgufFile,
    format: WeightType,
    tensor: &TensorInfo,
    options: &CpuOptions,
    repeat: u32,
) -> Result<Product, CliError> {
    let columns = tensor.shape[0];
    let all_rows = tensor.elements() / columns;
    let rows = all_rows.min((DECODED_BYTES / (4 * columns)).max(1));
    let bytes = file.read(tensor.offset, tensor.size_bytes / all_rows * rows)?;
    let matrix = ProductMatrix { format, bytes: &bytes, columns: columns as usize };
    let times = time_products(matrix, options, repeat)?;
    let microseconds = |time: Duration| time.as_secs_f64() * 1e6;
    let [fused, decode, multiply] = [times.fused_f32, times.decode, times.multiply].map(microseconds);
    Ok(Product {
        tensor: tensor.name.clone(),
        kind: format.name(),
        rows,
        columns,
        fused_int8_us: microseconds(times.fused_int8),
        fused_f32_us: fused,
        decode_us: decode,
        multiply_us: multiply,
        times_fused: (decode + multiply) / fused,
        difference: times.difference,
    })
}

impl fmt::Display for Products {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { file, threads, isa, repeat, products } = self;
        writeln!(f, "{file}: products on {threads} threads, {isa}, median of {repeat}, µs")?;
        writeln!(
            f,
            "{:28} {:8} {:>16} {:>12} {:>11} {:>9} {:>10}  decode and multiply",
            "tensor", "type", "rows × columns", "fused, 8-bit", "fused, F32", "decode", "multiply"
        )?;
        for product in products {
            let shape = format!("{} × {}", product.rows, product.columns);
            let [int8, fused, decode, multiply] =
                [product.fused_int8_us, product.fused_f32_us, product.decode_us, product.multiply_us].map(three_digits);
            writeln!(
                f,
                "{:28} {:8} {shape:>16} {int8:>12} {fused:>11} {decode:>9} {multiply:>10}  {} times fused, F32",
                product.tensor,
                product.kind,
                three_digits(product.times_fused)
            )?;
        }
        Ok(())
    }
}
