//! What the files say, read back with the project's own reader.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::collections::BTreeMap;

use gptoss_gguf::{Gguf, Progress, TensorType, parse};
use gptoss_synth::{GOLDEN_20B_DATA_OFFSET, Model, Publisher, Spec, SynthError, TypeMix, Vocabulary, part_name};
use gptoss_text::Tokenizer;

/// The header of a file of which only the header may exist.
fn read(header: &[u8], file_bytes: u64) -> Gguf {
    match parse(header, file_bytes).unwrap() {
        Progress::Ready(gguf) => *gguf,
        Progress::NeedMore { at_least } => panic!("{} bytes of header, but {at_least} are needed", header.len()),
    }
}

fn header_of(model: &Model) -> Gguf {
    read(&model.header(), model.file_bytes())
}

/// Number of tensors of each type, by its name.
fn type_counts(gguf: &Gguf) -> BTreeMap<&str, usize> {
    let mut counts = BTreeMap::new();
    for tensor in &gguf.tensors {
        *counts.entry(tensor.kind.name()).or_default() += 1;
    }
    counts
}

fn data_bytes(gguf: &Gguf) -> u64 {
    gguf.tensors.iter().map(|tensor| tensor.size_bytes).sum()
}

/// Facts of ggml-org's `gpt-oss-20b-mxfp4.gguf`: the keys from its public load logs, its tensors, and their bytes.
#[test]
fn a_complete_20b_is_as_the_public_file() {
    let model = Spec::gpt_oss_20b().data_offset(GOLDEN_20B_DATA_OFFSET).build().unwrap();
    let gguf = header_of(&model);
    assert_eq!(gguf.version, 3);
    assert_eq!(gguf.data_offset, 13_008_832);
    assert_eq!(model.data_offset(), gguf.data_offset);
    assert_eq!(gguf.tensors.len(), 459);
    assert_eq!(type_counts(&gguf), BTreeMap::from([("F32", 289), ("MXFP4", 72), ("Q8_0", 98)]));
    assert_eq!(data_bytes(&gguf), 12_096_558_336);

    let keys: Vec<_> = gguf.metadata.iter().map(|(key, _)| key).collect();
    let expected = "general.architecture general.type general.name general.basename general.size_label general.license \
        general.tags gpt-oss.block_count gpt-oss.context_length gpt-oss.embedding_length gpt-oss.feed_forward_length \
        gpt-oss.attention.head_count gpt-oss.attention.head_count_kv gpt-oss.rope.freq_base \
        gpt-oss.attention.layer_norm_rms_epsilon gpt-oss.expert_count gpt-oss.expert_used_count \
        gpt-oss.attention.key_length gpt-oss.attention.value_length gpt-oss.attention.sliding_window \
        gpt-oss.expert_feed_forward_length gpt-oss.rope.scaling.type gpt-oss.rope.scaling.factor \
        gpt-oss.rope.scaling.original_context_length tokenizer.ggml.model tokenizer.ggml.pre tokenizer.ggml.tokens \
        tokenizer.ggml.token_type tokenizer.ggml.merges tokenizer.ggml.bos_token_id tokenizer.ggml.eos_token_id \
        tokenizer.ggml.padding_token_id tokenizer.chat_template general.quantization_version general.file_type";
    assert_eq!(keys, expected.split_whitespace().collect::<Vec<_>>());
    assert_eq!(keys.len(), 35);
    let metadata = &gguf.metadata;
    assert_eq!(metadata.str("general.name").unwrap(), "Gpt Oss 20b");
    assert_eq!(metadata.str("general.size_label").unwrap(), "20B");
    for (key, value) in [
        ("gpt-oss.block_count", 24),
        ("gpt-oss.context_length", 131_072),
        ("gpt-oss.embedding_length", 2880),
        ("gpt-oss.attention.head_count", 64),
        ("gpt-oss.attention.head_count_kv", 8),
        ("gpt-oss.attention.sliding_window", 128),
        ("gpt-oss.expert_count", 32),
        ("gpt-oss.expert_used_count", 4),
        ("tokenizer.ggml.bos_token_id", 199_998),
        ("tokenizer.ggml.eos_token_id", 200_002),
        ("tokenizer.ggml.padding_token_id", 199_999),
        ("general.file_type", 38),
    ] {
        assert_eq!(metadata.u32(key).unwrap(), value, "{key}");
    }
    the_tensors_are_in_the_public_order(&gguf);
    the_vocabulary_is_o200k(&gguf);
}

/// llama.cpp's quantiser sorts by layer and name. In the file of the golden facts `output.weight` is at 13,008,832 and
/// `token_embd.weight` at 628,349,632: the output's 615,329,280 bytes and the norm's 11,520 after it.
fn the_tensors_are_in_the_public_order(gguf: &Gguf) {
    assert_eq!(gguf.tensor("output.weight").unwrap().offset, 13_008_832);
    assert_eq!(gguf.tensor("output_norm.weight").unwrap().size_bytes, 11_520);
    let embedding = gguf.tensor("token_embd.weight").unwrap();
    assert_eq!((embedding.offset, embedding.size_bytes), (628_349_632, 615_329_280));
    assert_eq!(embedding.shape, [2880, 201_088]);
    let names: Vec<_> = gguf.tensors[3..22].iter().map(|tensor| tensor.name.strip_prefix("blk.0.").unwrap()).collect();
    let expected = "attn_k.bias attn_k.weight attn_norm.weight attn_output.bias attn_output.weight attn_q.bias \
        attn_q.weight attn_sinks.weight attn_v.bias attn_v.weight ffn_down_exps.bias ffn_down_exps.weight \
        ffn_gate_exps.bias ffn_gate_exps.weight ffn_gate_inp.bias ffn_gate_inp.weight ffn_up_exps.bias \
        ffn_up_exps.weight post_attention_norm.weight";
    assert_eq!(names, expected.split_whitespace().collect::<Vec<_>>());
    // Sorted by number, not by spelling: 2 comes before 10.
    let layers: Vec<u32> =
        gguf.tensors[3..].iter().map(|tensor| tensor.name.split('.').nth(1).unwrap().parse().unwrap()).collect();
    assert!(layers.is_sorted());
    let down = gguf.tensor("blk.23.ffn_down_exps.weight").unwrap();
    assert_eq!((down.shape.as_slice(), down.size_bytes / 32), ([2880, 2880, 32].as_slice(), 4_406_400));
    assert_eq!(gguf.tensor("blk.7.attn_output.weight").unwrap().shape, [4096, 2880]);
    assert_eq!(gguf.tensor("blk.7.attn_sinks.weight").unwrap().shape, [64]);
}

fn the_vocabulary_is_o200k(gguf: &Gguf) {
    let metadata = &gguf.metadata;
    let tokens = metadata.string_array("tokenizer.ggml.tokens").unwrap();
    let merges = metadata.string_array("tokenizer.ggml.merges").unwrap();
    let types = metadata.i32_array("tokenizer.ggml.token_type").unwrap();
    assert_eq!((tokens.len(), types.len(), merges.len()), (201_088, 201_088, 446_189));
    // Spellings that llama.cpp prints.
    assert_eq!(tokens.iter().take(3).collect::<Vec<_>>(), ["!", "\"", "#"]);
    assert_eq!(merges.iter().take(3).collect::<Vec<_>>(), ["Ġ Ġ", "Ġ ĠĠĠ", "ĠĠ ĠĠ"]);
    // llama.cpp counts 21 special tokens.
    assert_eq!(types.iter().filter(|&&kind| kind == 3).count(), 21);
    assert_eq!(types.iter().filter(|&&kind| kind == 5).count(), 1069);
    let tokenizer = Tokenizer::new(tokens.iter(), &types, merges.iter()).unwrap();
    assert_eq!(tokenizer.encode_ordinary("Hi to"), [12194, 316]);
    assert_eq!(tokenizer.encode_with_specials("<|start|><|call|>"), [200_006, 200_012]);
}

/// With a template as long as OpenAI's, 16,738 bytes, data begin where ggml-org's file of 12,109,566,560 bytes has
/// them; with Unsloth's keys and a longer template, where its file of 12,109,567,168 bytes has them.
#[test]
fn header_lengths_are_those_of_the_public_files() {
    let template = "x".repeat(16_738);
    let ggml_org = Spec::gpt_oss_20b().chat_template(template).build().unwrap();
    assert_eq!(ggml_org.data_offset(), 13_008_224);
    assert_eq!(ggml_org.file_bytes(), 12_109_566_560);

    let unsloth =
        Spec::gpt_oss_20b().publisher(Publisher::Unsloth).data_offset(GOLDEN_20B_DATA_OFFSET).build().unwrap();
    let gguf = header_of(&unsloth);
    assert_eq!(gguf.metadata.len(), 37);
    assert_eq!(gguf.metadata.str("general.quantized_by").unwrap(), "Unsloth");
    assert_eq!(gguf.metadata.u32("tokenizer.ggml.padding_token_id").unwrap(), 200_017);
    assert_eq!(unsloth.file_bytes(), 12_109_567_168);
}

/// Unsloth's `gpt-oss-20b-Q4_K_M.gguf`: 11,624,759,488 bytes, and the counts that llama.cpp prints for it.
#[test]
fn the_q4_k_m_mix_is_that_of_the_public_file() {
    let spec = Spec::gpt_oss_20b().publisher(Publisher::Unsloth).types(TypeMix::Q4KM);
    let model = spec.data_offset(GOLDEN_20B_DATA_OFFSET).build().unwrap();
    let gguf = header_of(&model);
    let counts = [("F32", 289), ("MXFP4", 72), ("Q4_K", 24), ("Q5_0", 61), ("Q8_0", 13)];
    assert_eq!(type_counts(&gguf), BTreeMap::from(counts));
    assert_eq!(gguf.metadata.u32("general.file_type").unwrap(), 15);
    assert_eq!(gguf.tensor("blk.3.attn_output.weight").unwrap().kind, TensorType::Q4K);
    assert_eq!(model.file_bytes(), 11_624_759_488);
}

/// Counts from the public load logs: 687 tensors in 36 layers of 128 experts.
#[test]
fn a_120b_has_the_public_files_tensors() {
    let gguf = header_of(&Spec::gpt_oss_120b().build().unwrap());
    assert_eq!(gguf.tensors.len(), 687);
    assert_eq!(type_counts(&gguf), BTreeMap::from([("F32", 433), ("MXFP4", 108), ("Q8_0", 146)]));
    assert_eq!(gguf.tensor("blk.35.ffn_gate_exps.weight").unwrap().shape, [2880, 2880, 128]);
    assert_eq!(gguf.metadata.str("general.name").unwrap(), "Gpt Oss 120b");
}

/// Ollama's 120b: 687 tensors, of which 146 are BF16.
#[test]
fn ollamas_files_have_names_of_their_own() {
    let model = Spec::gpt_oss_120b().publisher(Publisher::Ollama).vocabulary(Vocabulary::Tiny { tokens: 320 });
    let gguf = header_of(&model.build().unwrap());
    assert_eq!(type_counts(&gguf), BTreeMap::from([("BF16", 146), ("F32", 433), ("MXFP4", 108)]));
    assert_eq!(gguf.metadata.str("general.architecture").unwrap(), "gptoss");
    assert_eq!(gguf.metadata.u32("gptoss.block_count").unwrap(), 36);
    for absent in ["gptoss.expert_feed_forward_length", "gptoss.rope.scaling.type", "tokenizer.chat_template"] {
        assert_eq!(gguf.metadata.get(absent), None);
    }
    for tensor in ["blk.0.attn_sinks", "blk.35.ffn_norm.weight"] {
        assert!(gguf.tensor(tensor).is_some(), "{tensor}");
    }
    let fault = model_fault(Spec::tiny().publisher(Publisher::Ollama).data_offset(1 << 20));
    assert!(fault.contains("no chat template"), "{fault}");
}

#[test]
fn every_byte_is_written_and_every_tensor_can_be_made_alone() {
    // 12 experts leave padding after the router's bias, 3 heads after the sinks.
    let spec = Spec::tiny().layers(2).experts(12).hidden(160).ff(96).query_heads(6).kv_heads(3).seed(5);
    let model = spec.build().unwrap();
    let file = spec.to_bytes().unwrap();
    let gguf = read(&file, file.len() as u64);
    assert_eq!(file.len() as u64, model.file_bytes());
    assert_eq!(gguf.data_offset, model.data_offset());
    for tensor in &gguf.tensors {
        let bytes = &file[tensor.offset as usize..][..tensor.size_bytes as usize];
        assert_eq!(bytes, model.tensor_bytes(&tensor.name).unwrap(), "{}", tensor.name);
        assert!(bytes.iter().any(|&byte| byte != 0), "{} is not all zeros", tensor.name);
        let end = (tensor.offset + tensor.size_bytes) as usize;
        assert!(file[end..end.next_multiple_of(32)].iter().all(|&byte| byte == 0), "padding after {}", tensor.name);
    }
    assert!(matches!(model.tensor_bytes("blk.2.attn_q.weight"), Err(SynthError::NoSuchTensor { .. })));
}

#[test]
fn equal_seeds_give_equal_files_and_others_other_weights() {
    let spec = Spec::tiny().layers(1);
    let file = |spec: &Spec| spec.to_bytes().unwrap();
    assert_eq!(file(&spec), file(&spec));
    let (first, second) = (spec.build().unwrap(), spec.clone().seed(1).build().unwrap());
    assert_eq!(first.header(), second.header(), "the seed decides weights only");
    for tensor in first.tensors() {
        assert_ne!(
            first.tensor_bytes(&tensor.name).unwrap(),
            second.tensor_bytes(&tensor.name).unwrap(),
            "{}",
            tensor.name
        );
    }
    // A tensor that a larger model also has is the same there: its rows depend on nothing else.
    let larger = spec.layers(3).build().unwrap();
    let name = "blk.0.ffn_up_exps.weight";
    assert_eq!(first.tensor_bytes(name).unwrap(), larger.tensor_bytes(name).unwrap());
}

/// Chunks end between rows: a tensor of several chunks is the same as its rows.
#[test]
fn tensors_larger_than_a_chunk_are_whole() {
    let model = Spec::tiny().layers(1).ff(2048).types(TypeMix::Uniform(TensorType::F32)).build().unwrap();
    let name = "blk.0.ffn_gate_exps.weight";
    let bytes = model.tensor_bytes(name).unwrap();
    assert_eq!(bytes.len(), 256 * 2048 * 8 * 4, "16 MiB: four chunks");
    let rows: Vec<&[u8]> = bytes.chunks_exact(1024).collect();
    assert!(rows.windows(2).all(|pair| pair[0] != pair[1]), "neighbouring rows differ, across chunks too");
    let short = Spec::tiny().layers(1).ff(32).types(TypeMix::Uniform(TensorType::F32)).build().unwrap();
    let prefix = short.tensor_bytes(name).unwrap();
    assert_eq!(prefix, bytes[..prefix.len()], "a row depends on its index only");
}

#[test]
fn parts_join_to_the_same_tensors() {
    let model = Spec::tiny().build().unwrap();
    let whole = Spec::tiny().to_bytes().unwrap();
    let gguf = read(&whole, whole.len() as u64);
    for count in [1, 2, 3, 79] {
        let parts = model.split(count).unwrap();
        assert_eq!(parts.len(), count);
        let mut joined = gguf.tensors.iter();
        for (index, part) in parts.iter().enumerate() {
            let mut file = Vec::new();
            part.write(&mut file).unwrap();
            assert_eq!(file.len() as u64, part.file_bytes());
            let header = read(&file, file.len() as u64);
            let split = header.split().unwrap();
            assert_eq!((split.no, split.count, split.tensors_count), (index as u32, count as u32, 79));
            assert_eq!(header.metadata.len(), if index == 0 { 38 } else { 3 }, "all metadata are in the first part");
            assert!(!header.tensors.is_empty());
            for tensor in &header.tensors {
                let original = joined.next().unwrap();
                assert_eq!(
                    (&tensor.name, &tensor.shape, tensor.kind),
                    (&original.name, &original.shape, original.kind)
                );
                let bytes = |file: &[u8], offset: u64| file[offset as usize..][..original.size_bytes as usize].to_vec();
                assert_eq!(bytes(&file, tensor.offset), bytes(&whole, original.offset), "{}", tensor.name);
            }
        }
        assert_eq!(joined.next(), None);
    }
    let sizes: Vec<u64> = model.split(3).unwrap().iter().map(|part| part.file_bytes()).collect();
    assert!(sizes.iter().max().unwrap() < &(2 * sizes.iter().min().unwrap()), "about equal: {sizes:?}");
    for count in [0, 80] {
        assert!(matches!(model.split(count), Err(SynthError::Split { tensors: 79, .. })));
    }
    assert_eq!(gptoss_gguf::split_name(&part_name("a-b", 1, 12)), Some(("a-b", 2, 12)));
}

#[test]
fn a_vocabulary_file_has_no_tensors() {
    let file = Spec::tiny().vocabulary_only(true).to_bytes().unwrap();
    let gguf = read(&file, file.len() as u64);
    assert_eq!((gguf.tensors.len(), gguf.metadata.len()), (0, 35));
    assert_eq!(gguf.data_offset, file.len() as u64);
}

#[test]
fn a_tiny_vocabulary_makes_a_tokenizer() {
    for tokens in [320, 512] {
        let arrays = Vocabulary::Tiny { tokens }.arrays().unwrap();
        let tokenizer = Tokenizer::new(&arrays.tokens, &arrays.token_types, &arrays.merges).unwrap();
        assert_eq!(tokenizer.vocab_size(), tokens as usize);
        let text = "the and of in\r\n\u{1F600} ÿ\0";
        let ids = tokenizer.encode_ordinary(text);
        assert!(ids.len() < text.len(), "some merges apply");
        let bytes: Vec<u8> = ids.iter().flat_map(|&id| tokenizer.token_bytes(id).unwrap().to_vec()).collect();
        assert_eq!(bytes, text.as_bytes());
    }
    // Every merge makes the token that it is listed for, in that order.
    let arrays = Vocabulary::Tiny { tokens: 320 }.arrays().unwrap();
    for (merge, token) in arrays.merges.iter().zip(&arrays.tokens[256..]) {
        assert_eq!(&merge.replace(' ', ""), token);
        assert!(merge.split(' ').all(|half| arrays.tokens.iter().any(|known| known == half)), "{merge}");
    }
}

fn model_fault(spec: Spec) -> String {
    spec.build().expect_err("the description has a fault").to_string()
}

#[test]
fn faults_are_named() {
    for (spec, words) in [
        (Spec::tiny().hidden(100), "hidden size is 100, expected a multiple of 32"),
        (Spec::tiny().layers(0), "layers is 0"),
        (Spec::tiny().query_heads(7), "a multiple of the 2 KV heads"),
        (Spec::tiny().kv_heads(0), "KV heads is 0"),
        (Spec::tiny().experts(3), "experts per token is 4, expected 1 to 3"),
        (Spec::tiny().vocabulary(Vocabulary::Tiny { tokens: 100 }), "at least 320"),
        (Spec::tiny().tensor_type("blk.9.*", TensorType::F16), "no tensor has a name like \"blk.9.*\""),
        (Spec::tiny().hidden(288).tensor_type("*attn_q.weight", TensorType::Q6K), "rows of 288 weights"),
        (Spec::tiny().types(TypeMix::Uniform(TensorType::Q2K)), "weights of type Q2_K cannot be made"),
        (Spec::tiny().data_offset(64), "cannot begin at byte 64"),
        (Spec::tiny().data_offset(100_001), "not a multiple of 32"),
    ] {
        let fault = model_fault(spec);
        assert!(fault.contains(words), "{fault}");
    }
}

#[test]
fn overrides_decide_in_order_and_fallbacks_apply_to_mixes_only() {
    let spec = Spec::tiny()
        .hidden(288)
        .types(TypeMix::Uniform(TensorType::Q5K))
        .tensor_type("*_exps.weight", TensorType::Q4_0)
        .tensor_type("*down_exps.weight", TensorType::Q4K);
    let gguf = header_of(&spec.build().unwrap());
    let kind = |name: &str| gguf.tensor(name).unwrap().kind;
    assert_eq!(kind("blk.0.attn_q.weight"), TensorType::Q5_1, "rows of 288 do not hold blocks of 256");
    assert_eq!(kind("blk.0.attn_output.weight"), TensorType::Q5K, "rows of 512 do");
    assert_eq!(kind("blk.0.ffn_up_exps.weight"), TensorType::Q4_0);
    assert_eq!(kind("blk.0.ffn_down_exps.weight"), TensorType::Q4K);
    assert_eq!(kind("blk.0.ffn_gate_inp.weight"), TensorType::F32);
}

#[test]
fn a_destination_that_fails_ends_the_writing() {
    struct Full(u64);
    impl std::io::Write for Full {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0 = self.0.checked_sub(bytes.len() as u64).ok_or(std::io::ErrorKind::StorageFull)?;
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let model = Spec::gpt_oss_20b().vocabulary(Vocabulary::Tiny { tokens: 320 }).build().unwrap();
    let error = model.write(&mut Full(100 << 20)).expect_err("12 GB do not fit 100 MiB");
    assert!(matches!(error, SynthError::Io(error) if error.kind() == std::io::ErrorKind::StorageFull));
}
