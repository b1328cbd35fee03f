//! Every kernel parses and validates without a device, uses the baseline tier only, and agrees with its Rust side:
//! bindings, parameter layouts and status indices are compared by reflection.
#![cfg(not(target_arch = "wasm32"))]

use std::collections::BTreeMap;

use gptoss_gguf::WeightType;
use gptoss_kernels::gpu::Access;
use gptoss_kernels::not_finite::PLACES;
use gptoss_kernels::operation::Geometry;
use gptoss_kernels::{
    Operation, ROW_WORDS, Row, Sampled, Status, Step, Tier, attention, experts, matmul, matmul_residual, needs,
    not_finite, repack, rope, router, sample,
};
use gptoss_model::{BLOCK_TOKENS, CacheFormat, MAX_EXPERTS, NotFinite, Place, ops};
use naga::{AddressSpace, Literal, ScalarKind, StorageAccess, TypeInner};

/// `pack2x16float` and its inverse are core WGSL, which every WebGPU device has; naga asks for the capability because
/// devices below WebGPU may lack it.
const BASELINE: naga::valid::Capabilities = naga::valid::Capabilities::SHADER_FLOAT16_IN_FLOAT32;

/// Kernel name without the format, e.g. `matmul` of `matmul Q8_0`.
fn operation(name: &str) -> &str {
    name.split(' ').next().expect("split yields one part at least")
}

/// Every kernel of `tiers` by name, tier by tier: all variants of all operations, and what repacks.
fn sources(tiers: &[Tier]) -> Vec<(String, String)> {
    let mut all = vec![("repack".to_owned(), gptoss_kernels::sources::repack())];
    for tier in tiers {
        for operation in Operation::all() {
            for variant in operation.variants(Geometry { lanes_per_row: 8 }) {
                let known = all.iter().any(|(_, source)| *source == variant.source);
                if variant.tier == *tier && !known {
                    all.push((operation.to_string(), variant.source));
                }
            }
        }
    }
    all
}

/// naga does not know the directive, and has no need of it.
fn for_naga(source: &str) -> &str {
    source.strip_prefix(gptoss_kernels::sources::ENABLE_SUBGROUPS).unwrap_or(source)
}

/// The modules of all tiers.
fn modules() -> Vec<(String, naga::Module)> {
    sources(&Tier::ALL)
        .into_iter()
        .map(|(name, source)| {
            let source = for_naga(&source);
            let module = naga::front::wgsl::parse_str(source)
                .unwrap_or_else(|error| panic!("{name} does not parse:\n{}", error.emit_to_string(source)));
            (name, module)
        })
        .collect()
}

#[test]
fn every_kernel_validates_with_the_capabilities_of_core_webgpu() {
    let sources = sources(&[Tier::Baseline]);
    assert_eq!(sources.len(), 4 + 3 * 2 + WeightType::ALL.len() * 4, "one kernel per operation and format");
    for (name, source) in sources {
        for directive in ["enable ", "requires "] {
            assert!(!source.contains(directive), "{name} contains `{directive}`: the baseline needs no extension");
        }
        let module = naga::front::wgsl::parse_str(&source)
            .unwrap_or_else(|error| panic!("{name} does not parse:\n{}", error.emit_to_string(&source)));
        naga::valid::Validator::new(naga::valid::ValidationFlags::all(), BASELINE)
            .validate(&module)
            .unwrap_or_else(|error| panic!("{name} is not valid:\n{}", error.emit_to_string(&source)));
        let entries: Vec<_> = module.entry_points.iter().map(|entry| entry.name.as_str()).collect();
        assert_eq!(entries, ["main"], "{name}");
    }
}

/// Those of higher tiers validate with what their tier has, and say which of it they need.
#[test]
fn kernels_of_higher_tiers_need_what_their_tier_has() {
    use naga::valid::{Capabilities, ShaderStages, SubgroupOperationSet, ValidationFlags, Validator};
    let of_tier = |tier| match tier {
        Tier::Baseline => (BASELINE, &[][..]),
        Tier::F16 => (BASELINE | Capabilities::SHADER_FLOAT16, &["enable f16;"][..]),
        Tier::F16Subgroups => {
            let subgroups = Capabilities::SUBGROUP;
            (BASELINE | Capabilities::SHADER_FLOAT16 | subgroups, &["enable f16;", "enable subgroups;"][..])
        }
    };
    let baseline = sources(&[Tier::Baseline]);
    for tier in [Tier::F16, Tier::F16Subgroups] {
        let (capabilities, directives) = of_tier(tier);
        let own = sources(&[tier]);
        let own: Vec<_> = own.into_iter().filter(|(name, _)| name != "repack").collect();
        assert!(!own.is_empty(), "tier {tier} has kernels of its own");
        for (name, source) in own {
            assert!(baseline.iter().any(|(known, _)| *known == name), "{name} has a kernel for every device");
            let enabled: Vec<_> = source.lines().filter(|line| line.starts_with("enable ")).collect();
            assert!(!enabled.is_empty() && enabled.iter().all(|it| directives.contains(it)), "{name}: {enabled:?}");
            let source = for_naga(&source);
            let module = naga::front::wgsl::parse_str(source)
                .unwrap_or_else(|error| panic!("{name} does not parse:\n{}", error.emit_to_string(source)));
            Validator::new(ValidationFlags::all(), capabilities)
                .subgroup_stages(ShaderStages::COMPUTE)
                .subgroup_operations(SubgroupOperationSet::all())
                .validate(&module)
                .unwrap_or_else(|error| panic!("{name} is not valid:\n{}", error.emit_to_string(source)));
        }
    }
}

/// What is asked of a device is what the largest kernel needs, no less and no more.
#[test]
fn the_needs_are_those_of_the_kernels() {
    let largest = |of: fn(&naga::Module) -> u32| modules().iter().map(|(_, module)| of(module)).max().expect("kernels");
    let storage = |module: &naga::Module| bindings_in(module, |space| matches!(space, AddressSpace::Storage { .. }));
    let uniform = |module: &naga::Module| bindings_in(module, |space| *space == AddressSpace::Uniform);
    assert_eq!(largest(storage), needs::STORAGE_BUFFERS.needed);
    assert_eq!(largest(uniform), needs::UNIFORM_BUFFERS.needed);
    assert_eq!(largest(|module| bindings_in(module, |_| true)), needs::BINDINGS.needed);
    assert_eq!(largest(|module| module.entry_points[0].workgroup_size.iter().product()), needs::INVOCATIONS.needed);
    assert_eq!(largest(|module| module.entry_points[0].workgroup_size[0]), needs::WORKGROUP_WIDTH.needed);
    assert_eq!(largest(workgroup_bytes).next_power_of_two(), needs::WORKGROUP_MEMORY.needed);
}

/// Bindings in such address spaces.
fn bindings_in(module: &naga::Module, is: fn(&AddressSpace) -> bool) -> u32 {
    let variables = module.global_variables.iter().map(|(_, variable)| variable);
    variables.filter(|variable| variable.binding.is_some() && is(&variable.space)).count() as u32
}

fn workgroup_bytes(module: &naga::Module) -> u32 {
    let mut layouts = naga::proc::Layouter::default();
    layouts.update(module.to_ctx()).unwrap_or_else(|error| panic!("{error}"));
    let variables = module.global_variables.iter().map(|(_, variable)| variable);
    variables
        .filter(|variable| variable.space == AddressSpace::WorkGroup)
        .map(|variable| layouts[variable.ty].size.next_multiple_of(16))
        .sum()
}

/// Chrome's compiler rejects infinite constants; f16 needs shader-f16.
#[test]
fn constants_are_finite_and_no_type_of_the_baseline_is_f16() {
    let baseline: Vec<_> = sources(&[Tier::Baseline]).iter().map(|(name, _)| name.clone()).collect();
    for (at, (name, module)) in modules().into_iter().enumerate() {
        // The baseline's come first.
        let is_baseline = at < baseline.len();
        for (_, ty) in module.types.iter().filter(|_| is_baseline) {
            assert!(
                !matches!(ty.inner.scalar(), Some(scalar) if scalar.kind == ScalarKind::Float && scalar.width == 2),
                "{name} uses f16"
            );
        }
        let functions = module
            .functions
            .iter()
            .map(|(_, function)| function)
            .chain(module.entry_points.iter().map(|entry| &entry.function));
        let expressions = functions
            .flat_map(|function| function.expressions.iter())
            .chain(module.global_expressions.iter())
            .map(|(_, expression)| expression);
        for expression in expressions {
            if let naga::Expression::Literal(Literal::F32(value)) = expression {
                assert!(value.is_finite(), "{name} holds the constant {value}");
            }
        }
    }
}

#[test]
fn workgroup_memory_fits_the_smallest_device() {
    for (name, module) in modules() {
        let bytes = workgroup_bytes(&module);
        assert!(bytes <= needs::WORKGROUP_MEMORY.needed, "{name} takes {bytes} bytes of workgroup memory");
    }
}

fn accesses(name: &str) -> &'static [Access] {
    match Operation::all().into_iter().find(|operation| operation.to_string() == name) {
        Some(operation) => operation.accesses(),
        None => &repack::ACCESSES,
    }
}

#[test]
fn bindings_are_those_of_the_rust_side() {
    for (name, module) in modules() {
        let mut found = BTreeMap::new();
        for (_, variable) in module.global_variables.iter() {
            let Some(binding) = &variable.binding else { continue };
            assert_eq!(binding.group, 0, "{name}: all bindings are in group 0");
            let access = match variable.space {
                AddressSpace::Uniform => Access::Uniform,
                AddressSpace::Storage { access } if access.contains(StorageAccess::STORE) => Access::ReadWrite,
                AddressSpace::Storage { .. } => Access::Read,
                space => panic!("{name}: a binding in {space:?}"),
            };
            assert!(found.insert(binding.binding, access).is_none(), "{name}: binding {} twice", binding.binding);
        }
        let want: BTreeMap<u32, Access> = (0..).zip(accesses(&name).iter().copied()).collect();
        assert_eq!(found, want, "{name}");
        let storage = want.values().filter(|access| **access != Access::Uniform).count();
        assert!(storage <= needs::STORAGE_BUFFERS.needed as usize, "{name} binds {storage} storage buffers");
    }
}

/// A field by name: byte offset and scalar type.
type Fields = BTreeMap<String, (u32, ScalarKind)>;

/// Name, size and fields of a Rust struct; the field types are checked by the compiler.
macro_rules! layout {
    ($ty:ty { $($field:ident: $kind:ident),* $(,)? }) => {{
        $(let _: fn(&$ty) -> &$kind = |value| &value.$field;)*
        let fields = [$((
            stringify!($field).to_owned(),
            (std::mem::offset_of!($ty, $field) as u32, layout!(@kind $kind)),
        )),*];
        (size_of::<$ty>() as u32, Fields::from(fields))
    }};
    (@kind u32) => { ScalarKind::Uint };
    (@kind f32) => { ScalarKind::Float };
}

fn wgsl_layout(module: &naga::Module, name: &str) -> Option<(u32, Fields)> {
    module.types.iter().find_map(|(_, ty)| match &ty.inner {
        TypeInner::Struct { members, span } if ty.name.as_deref() == Some(name) => {
            let fields = members
                .iter()
                .filter_map(|member| {
                    let field = member.name.clone()?;
                    let scalar = module.types[member.ty].inner.scalar()?;
                    (!field.starts_with("padding")).then_some((field, (member.offset, scalar.kind)))
                })
                .collect();
            Some((*span, fields))
        }
        _ => None,
    })
}

fn params(operation: &str) -> (u32, Fields) {
    match operation {
        "matmul" => layout!(matmul::Params {
            rows: u32,
            blocks_per_row: u32,
            y_first: u32,
            y_stride: u32,
            bias_first: u32,
            scales_base: u32,
            layer: u32,
            flags: u32,
            squares_first: u32,
            squares: u32,
            epsilon: f32,
        }),
        "matmul_residual" => layout!(matmul_residual::Params {
            rows: u32,
            blocks_per_row: u32,
            scales_base: u32,
            layer: u32,
            columns: u32,
            first_row: u32,
            squares_first: u32,
            squares: u32,
            first_square: u32,
        }),
        "rope" => layout!(rope::Params { query_heads: u32, kv_heads: u32, table_first: u32, layer: u32 }),
        "attention" | "attention_row" => {
            layout!(attention::Params { query_heads: u32, kv_heads: u32, window: u32, table_first: u32, layer: u32 })
        }
        "router" => layout!(router::Params {
            columns: u32,
            experts: u32,
            experts_per_token: u32,
            layer: u32,
            squares_first: u32,
            squares: u32,
            epsilon: f32,
        }),
        // The bias of gate and up starts at 0: this kernel has no use for `bias_base`.
        "experts_gate_up" => layout!(experts::Params {
            rows: u32,
            blocks_per_row: u32,
            experts: u32,
            experts_per_token: u32,
            layer: u32,
            first_slot: u32,
            slots: u32,
            slot_stride: u32,
            codes_base: u32,
            scales_base: u32,
            squares_first: u32,
            squares: u32,
            epsilon: f32,
        }),
        "experts_down" => layout!(experts::Params {
            rows: u32,
            blocks_per_row: u32,
            experts: u32,
            experts_per_token: u32,
            layer: u32,
            first_slot: u32,
            slots: u32,
            slot_stride: u32,
            codes_base: u32,
            scales_base: u32,
            bias_base: u32,
            squares_first: u32,
            squares: u32,
            epsilon: f32,
        }),
        "experts_combine" => {
            layout!(experts::CombineParams { columns: u32, experts_per_token: u32, layer: u32, squares_first: u32 })
        }
        "sample" => layout!(sample::Params { vocabulary: u32 }),
        "repack" => layout!(repack::Params {
            rows: u32,
            file_blocks_per_row: u32,
            first_row: u32,
            row_step: u32,
            codes_base: u32,
            scales_base: u32,
            neighbours: u32,
        }),
        _ => panic!("{operation} has no Rust parameters: add them here"),
    }
}

#[test]
fn structs_have_the_layout_of_the_rust_side() {
    let step = layout!(Step { tokens: u32, head_first: u32, head_tokens: u32, stamp: u32 });
    let route = layout!(ops::router::Route { expert: u32, weight: f32 });
    let candidate = layout!(ops::sample::Candidate { token: u32, logit: f32 });
    // Its candidates, which are no scalar, are the rest.
    let sampled = layout!(Sampled {
        non_finite: u32,
        top_token: u32,
        top_logit: f32,
        log_sum_exp: f32,
        log_sum_exp_tempered: f32,
        entropy_nats: f32,
    });
    for (name, module) in modules() {
        let operation = operation(&name);
        assert_eq!(wgsl_layout(&module, "Params"), Some(params(operation)), "Params of {name}");
        let has_step = operation != "repack";
        assert_eq!(wgsl_layout(&module, "Step"), has_step.then(|| step.clone()), "Step of {name}");
        let has_routes = operation == "router" || operation.starts_with("experts");
        assert_eq!(wgsl_layout(&module, "Route"), has_routes.then(|| route.clone()), "Route of {name}");
        let has_candidates = operation == "sample";
        assert_eq!(wgsl_layout(&module, "Candidate"), has_candidates.then(|| candidate.clone()), "{name}");
        assert_eq!(wgsl_layout(&module, "Sampled"), has_candidates.then(|| sampled.clone()), "{name}");
    }
}

/// A `const` of type u32 or i32, by name.
fn constant(module: &naga::Module, name: &str) -> Option<u32> {
    let (_, constant) = module.constants.iter().find(|(_, constant)| constant.name.as_deref() == Some(name))?;
    match module.global_expressions[constant.init] {
        naga::Expression::Literal(Literal::U32(value)) => Some(value),
        _ => None,
    }
}

/// A `const` of type f32, by name.
fn float_constant(module: &naga::Module, name: &str) -> Option<f32> {
    let (_, constant) = module.constants.iter().find(|(_, constant)| constant.name.as_deref() == Some(name))?;
    match module.global_expressions[constant.init] {
        naga::Expression::Literal(Literal::F32(value)) => Some(value),
        _ => None,
    }
}

#[test]
fn status_indices_are_the_offsets_of_the_rust_fields() {
    let index = |offset: usize| Some((offset / 4) as u32);
    let want = [
        ("STATUS_HALT_LAYER", index(std::mem::offset_of!(Status, halt_layer))),
        ("STATUS_HITS", index(std::mem::offset_of!(Status, hits))),
        ("STATUS_MISSES", index(std::mem::offset_of!(Status, misses))),
        ("STATUS_MISSED", index(std::mem::offset_of!(Status, missed))),
        ("STATUS_FIRST_NOT_FINITE", index(std::mem::offset_of!(Status, first_not_finite))),
    ];
    for (name, module) in modules().into_iter().filter(|(name, _)| operation(name) != "repack") {
        for (status, index) in want {
            assert_eq!(constant(&module, status), index, "{status} in {name}");
        }
        let others: Vec<_> = module
            .constants
            .iter()
            .filter_map(|(_, constant)| constant.name.as_deref())
            .filter(|constant| constant.starts_with("STATUS_") && !want.iter().any(|(known, _)| known == constant))
            .collect();
        assert!(others.is_empty(), "{name} knows {others:?}, the Rust side does not");
    }
}

#[test]
fn row_indices_are_the_offsets_of_the_rust_fields() {
    let index = |offset: usize| Some((offset / 4) as u32);
    let reads_rows = |name: &str| ["rope", "attention", "attention_row", "sample"].contains(&operation(name));
    for (name, module) in modules().into_iter().filter(|(name, _)| reads_rows(name)) {
        assert_eq!(constant(&module, "ROW_WORDS"), Some(ROW_WORDS), "{name}");
        assert_eq!(constant(&module, "ROW_POSITION"), index(std::mem::offset_of!(Row, position)), "{name}");
        assert_eq!(constant(&module, "ROW_TABLE"), index(std::mem::offset_of!(Row, table)), "{name}");
        let inverse_temperature = index(std::mem::offset_of!(Row, inverse_temperature));
        assert_eq!(constant(&module, "ROW_INVERSE_TEMPERATURE"), inverse_temperature, "{name}");
        assert_eq!(constant(&module, "BLOCK_TOKENS"), Some(BLOCK_TOKENS), "{name}");
    }
}

#[test]
fn constants_shared_with_rust_are_equal() {
    for (name, module) in modules() {
        if ["rope", "router", "experts_combine"].contains(&operation(&name)) {
            assert_eq!(constant(&module, "NOT_FOUND"), Some(not_finite::NONE));
            assert_eq!(constant(&module, "PLACES"), Some(PLACES));
            for (constant_name, place) in [
                ("FOUND_PROJECTIONS", Place::Projections),
                ("FOUND_CACHE", Place::Cache),
                ("FOUND_ROUTER", Place::Router),
                ("FOUND_EXPERTS", Place::Experts),
            ] {
                assert_eq!(constant(&module, constant_name), Some(place as u32), "{name}");
                let found = NotFinite { layer: 7, place };
                assert_eq!(not_finite::from_code(7 * PLACES + place as u32), Some(found));
                assert_eq!(not_finite::code(found), 7 * PLACES + place as u32);
            }
        }
        match operation(&name) {
            "rope" => {
                let format = if name.ends_with("F16") { CacheFormat::F16 } else { CacheFormat::F32 };
                assert_eq!(float_constant(&module, "LARGEST_CACHED"), Some(format.largest()), "{name}");
            }
            "router" => {
                assert_eq!(constant(&module, "MISS"), Some(router::MISS));
                assert_eq!(constant(&module, "MAX_EXPERTS"), Some(MAX_EXPERTS));
            }
            "matmul" => {
                assert_eq!(constant(&module, "HAS_BIAS"), Some(matmul::HAS_BIAS));
                assert_eq!(constant(&module, "HEAD"), Some(matmul::HEAD));
            }
            "sample" => assert_eq!(constant(&module, "CANDIDATES"), Some(ops::sample::CANDIDATES as u32)),
            _ => {}
        }
    }
}
