//! `pylon gguf`: on the demo model, on files with one thing wrong, and on split ones.

use crate::support::{Folder, Run, nano, nano_bytes, o200k, run, write_split};
use gptoss_gguf::{Gguf, Progress, TensorType};
use gptoss_synth::edit::{Edit, RawTensor, RawValue};
use gptoss_synth::{GOLDEN_20B_DATA_OFFSET, Publisher, Spec};
use serde_json::{Value, json};

fn parsed(bytes: &[u8]) -> Gguf {
    match gptoss_gguf::parse(bytes, bytes.len() as u64).unwrap() {
        Progress::Ready(gguf) => *gguf,
        Progress::NeedMore { .. } => panic!("the whole file is there"),
    }
}

#[test]
fn the_table_is_that_of_the_file() {
    let gguf = parsed(&nano_bytes());
    let json = run(&["gguf", "dump", nano(), "--json"]).expect(0).json();
    assert_eq!(json["tensor_count"], gguf.tensors.len());
    assert_eq!((&json["data_offset"], &json["version"]), (&json!(gguf.data_offset), &json!(gguf.version)));
    let rows = json["tensors"].as_array().unwrap();
    assert_eq!(rows.len(), gguf.tensors.len());
    for (row, tensor) in rows.iter().zip(&gguf.tensors) {
        assert_eq!(row["name"], json!(tensor.name));
        assert_eq!(row["type"], json!(tensor.kind.name()));
        assert_eq!((&row["shape"], &row["offset"]), (&json!(tensor.shape), &json!(tensor.offset)));
        assert_eq!(row["bytes"], tensor.size_bytes);
    }
}

#[test]
fn a_limit_shortens_the_table_and_says_so() {
    let short = run(&["gguf", "dump", nano(), "--limit", "3"]).expect(0).stdout;
    assert_eq!(short.lines().count(), 2 + 3 + 1, "{short}");
    assert!(short.ends_with("and 114 more\n") && short.contains("blk.0.attn_norm.weight"), "{short}");
    let all = run(&["gguf", "dump", nano()]).expect(0).stdout;
    assert_eq!(all.lines().count(), 2 + 117);
    let json = run(&["gguf", "dump", nano(), "--json", "--limit", "2"]).expect(0).json();
    assert_eq!((json["tensors"].as_array().unwrap().len(), &json["tensor_count"]), (2, &json!(117)));
}

#[test]
fn metadata_is_summarised_and_shown_whole_when_asked() {
    let text = run(&["gguf", "meta", nano()]).expect(0).stdout;
    assert!(text.contains("array of 1280 x string") && text.lines().all(|line| line.chars().count() < 220), "{text}");
    let json = run(&["gguf", "meta", nano(), "--json"]).expect(0).json();
    assert_eq!(json["gpt-oss.block_count"], json!({"type": "u32", "value": 6}));
    assert_eq!(json["gpt-oss.attention.layer_norm_rms_epsilon"], json!({"type": "f32", "value": 1e-5}));
    let tokens = &json["tokenizer.ggml.tokens"];
    assert_eq!((&tokens["length"], tokens["first"].as_array().unwrap().len()), (&json!(1280), 4));

    let gguf = parsed(&nano_bytes());
    let merges = gguf.metadata.string_array("tokenizer.ggml.merges").unwrap();
    let whole = run(&["gguf", "meta", nano(), "--key", "tokenizer.ggml.merges"]).expect(0).stdout;
    assert!(whole.lines().eq(merges.iter()));
    let types = run(&["gguf", "meta", nano(), "--key", "tokenizer.ggml.token_type", "--json"]).expect(0).json();
    assert_eq!(types.as_array().unwrap().len(), 1280);
    let missing = run(&["gguf", "meta", nano(), "--key", "general.colour"]).expect(2);
    assert!(missing.stderr.contains("general.colour"), "{}", missing.stderr);
}

/// `sha256` of the coreutils, over the same bytes.
/// How verify ends where it found nothing, and nobody published a hash.
const UNVERIFIED: &str = ": no fault found, unverified: nothing vouches for these bytes (no published hash)\n";
const NANO_SHA256: &str = "ca89cedf85444e462a7f6333c9c1797f9d44c747c88f3b764c64b1a22621c837";

#[test]
fn hashes_are_those_of_the_bytes() {
    let bytes = nano_bytes();
    let file = run(&["gguf", "hash", nano(), "--whole"]).expect(0).stdout;
    assert_eq!(file, format!("{NANO_SHA256}  {}\n", nano()));
    let whole = run(&["gguf", "range", nano(), "--json", "--repeat", "2"]).expect(0).json();
    assert_eq!((&whole["sha256"], &whole["len"]), (&json!(NANO_SHA256), &json!(bytes.len())));
    assert_eq!((&whole["repeat"], &whole["consistent"]), (&json!(2), &json!(true)));

    // Chunks: those of a file of two and a bit are the hashes of its parts as files of their own.
    let folder = Folder::new();
    let long = bytes.repeat(3);
    let path = folder.write("long.gguf", &long);
    let rows = run(&["gguf", "hash", &path, "--json"]).expect(0).rows();
    assert_eq!(rows.len(), 4, "three chunks and the file");
    for (index, row) in rows[..3].iter().enumerate() {
        let begin = index << 22;
        let chunk = &long[begin..long.len().min(begin + (4 << 20))];
        assert_eq!((&row["offset"], &row["len"]), (&json!(begin), &json!(chunk.len())));
        let alone = folder.write("chunk", chunk);
        let hash = run(&["gguf", "hash", &alone, "--whole"]).expect(0).stdout;
        assert!(hash.starts_with(row["sha256"].as_str().unwrap()), "{hash}");
    }
    assert_eq!(rows[3]["file_bytes"], long.len());
}

#[test]
fn ranges_of_tensors_are_where_the_table_says() {
    let gguf = parsed(&nano_bytes());
    let output = gguf.tensor("output.weight").unwrap();
    let index = gguf.tensors.iter().position(|tensor| tensor.name == "output.weight").unwrap().to_string();
    let of_tensor = ["gguf", "range", nano(), "--json", "--offset", "34", "--len", "1000", "--tensor", "output.weight"];
    let of_index = ["gguf", "range", nano(), "--json", "--offset", "34", "--len", "1000", "--tensor-index", &index];
    let offset = (output.offset + 34).to_string();
    let of_file = ["gguf", "range", nano(), "--json", "--offset", &offset, "--len", "1000"];
    let rows: Vec<Value> =
        [&of_tensor[..], &of_index, &of_file].map(|arguments| run(arguments).expect(0).json()).into();
    assert!(rows.iter().all(|row| row["sha256"] == rows[0]["sha256"] && row["offset"] == output.offset + 34));
    let size = output.size_bytes.to_string();
    let whole = run(&["gguf", "range", nano(), "--tensor", "output.weight"]).expect(0).stdout;
    assert!(whole.contains(&format!("{size} bytes")), "{whole}");

    for (flags, expected) in [
        (&["--tensor", "output.wait"][..], "output.wait"),
        (&["--tensor-index", "117"], "less than 117"),
        (&["--tensor", "output.weight", "--len", "999999999"], "at most"),
        (&["--offset", "4000000"], "at most 3054208"),
        (&["--repeat", "0"], "--repeat"),
        (&["--tensor", "output.weight", "--tensor-index", "1"], "cannot be used with"),
    ] {
        let refused = run(&[&["gguf", "range", nano()], flags].concat()).expect(2);
        assert!(refused.stderr.contains(expected) && refused.stdout.is_empty(), "{flags:?}: {}", refused.stderr);
    }
}

fn verify(path: &str) -> Run {
    run(&["gguf", "verify", path])
}

/// The checks that failed, with their problems, as one text.
#[track_caller]
fn failed(path: &str) -> String {
    let json = run(&["gguf", "verify", path, "--json"]).expect(1).json();
    assert_eq!(json["ok"], false);
    let failed = json["checks"].as_array().unwrap().iter().filter(|check| check["ok"] == false);
    let told: Vec<String> = failed.map(|check| format!("{}: {}", check["check"], check["problems"])).collect();
    assert!(!told.is_empty());
    told.join("\n")
}

#[test]
fn files_without_a_fault_have_none() {
    let folder = Folder::new();
    let nano_run = verify(nano()).expect(0).stdout;
    // What nobody vouches for is not called sound.
    assert!(nano_run.contains(": no fault found, unverified") && nano_run.lines().count() == 8, "{nano_run}");
    for kind in [TensorType::Q4_0, TensorType::Q5_1, TensorType::Q6K, TensorType::Iq4Nl, TensorType::BF16] {
        let spec = Spec::tiny().layers(1).types(gptoss_synth::TypeMix::Uniform(kind));
        let path = folder.write(kind.name(), &spec.to_bytes().unwrap());
        let json = run(&["gguf", "verify", &path, "--json"]).expect(0).json();
        assert_eq!((&json["ok"], &json["vouched_for"]), (&json!(true), &json!(false)), "{kind}: {json}");
    }
}

/// What other programs write and this one runs: sound, with a note where something is worth knowing.
#[test]
fn files_of_other_writers_are_sound_and_what_is_odd_is_noted() {
    let folder = Folder::new();
    let changed = |name: &str, change: &dyn Fn(&mut Edit)| {
        let mut file = Edit::read(&nano_bytes());
        change(&mut file);
        folder.write(name, &file.write())
    };
    let noted = |path: &str, words: &[&str]| {
        let text = verify(path).expect(0).stdout;
        assert!(text.ends_with(UNVERIFIED), "{text}");
        let notes: Vec<&str> = text.lines().filter(|line| line.contains("note: ")).collect();
        assert_eq!(notes.len(), usize::from(!words.is_empty()), "{text}");
        assert!(words.iter().all(|word| notes[0].contains(word)), "{text}");
    };
    noted(&changed("early.gguf", &|file| _ = file.early_ollama(6)), &[]);
    noted(&changed("router.gguf", &|file| _ = file.retype("blk.0.ffn_gate_inp.weight", TensorType::BF16)), &[]);
    let empty = |file: &mut Edit| file.tensors.insert(3, RawTensor::of_f32("x", &[0], &[]));
    noted(&changed("empty.gguf", &empty), &["without weights", ": x"]);
    let unknown = |file: &mut Edit| _ = file.set("gpt-oss.attention.fancy", 2u32);
    noted(&changed("unknown.gguf", &unknown), &["does not know", "gpt-oss.attention.fancy"]);

    let odd = changed("odd.gguf", &|file| {
        file.set("general.description", RawValue::string_of_bytes(b"caf\xe9 au lait"));
    });
    noted(&odd, &["not UTF-8", "general.description"]);
    let meta = run(&["gguf", "meta", &odd]).expect(0).stdout;
    let line = meta.lines().find(|line| line.starts_with("general.description")).unwrap();
    assert!(line.contains("not UTF-8") && line.contains("caf\u{fffd} au lait"), "{line}");
    run(&["gguf", "dump", &odd]).expect(0);
}

#[test]
fn every_kind_of_damage_is_named() {
    let folder = Folder::new();
    let whole = nano_bytes();
    let gguf = parsed(&whole);
    let damaged = |name: &str, change: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = whole.clone();
        change(&mut bytes);
        failed(&folder.write(name, &bytes))
    };
    let at = |tensor: &str| gguf.tensor(tensor).unwrap().offset as usize;

    let short = damaged("short.gguf", &|bytes| bytes.truncate(bytes.len() - 1));
    assert!(short.contains("header") && short.contains("truncated"), "{short}");
    let long = damaged("long.gguf", &|bytes| bytes.extend([0; 100]));
    assert!(long.contains("layout") && long.contains("100 bytes follow behind the last tensor"), "{long}");
    // The scale of block 3 of a Q8_0 tensor becomes infinite, the exponent of block 5 of an MXFP4 one no number.
    let scale = damaged("scale.gguf", &|bytes| {
        let scale = at("output.weight") + 3 * 34;
        bytes[scale..scale + 2].copy_from_slice(&[0x00, 0x7C]);
    });
    assert!(scale.contains("numbers") && scale.contains("output.weight (Q8_0): 1 of 7680 blocks"), "{scale}");
    assert!(scale.contains("block 3"), "{scale}");
    let exponent = damaged("exponent.gguf", &|bytes| bytes[at("blk.2.ffn_up_exps.weight") + 5 * 17] = 255);
    assert!(exponent.contains("blk.2.ffn_up_exps.weight (MXFP4)") && exponent.contains("block 5"), "{exponent}");
    let norm = damaged("norm.gguf", &|bytes| {
        let weight = at("output_norm.weight") + 8;
        bytes[weight..weight + 4].copy_from_slice(&f32::NAN.to_le_bytes());
    });
    assert!(norm.contains("output_norm.weight (F32)") && norm.contains("block 2"), "{norm}");
    // A name with one letter changed: one tensor is missing, another does not belong.
    let renamed = damaged("renamed.gguf", &|bytes| {
        let name = b"output_norm.weight";
        let place = bytes.windows(name.len()).position(|window| window == name).unwrap();
        bytes[place] = b'O';
    });
    assert!(renamed.contains("output_norm.weight is missing"), "{renamed}");
    let not_gguf = damaged("other.gguf", &|bytes| bytes[0] = b'g');
    assert!(not_gguf.contains("not a GGUF file"), "{not_gguf}");
    let vocabulary = failed(o200k());
    assert!(vocabulary.contains("no model but a vocabulary only"), "{vocabulary}");
    let missing = verify("no-such-file.gguf").expect(2);
    assert!(missing.stderr.contains("no-such-file.gguf"), "{}", missing.stderr);
}

#[test]
fn split_models_are_checked_as_one() {
    let folder = Folder::new();
    let paths = write_split(&folder, "tiny", &Spec::tiny().layers(2), 3);
    for path in &paths {
        let sound = verify(path).expect(0).stdout;
        assert!(sound.contains("3 of 3 parts"), "{sound}");
    }
    // A part under another's name, and then a part that is not there.
    std::fs::copy(&paths[1], &paths[2]).unwrap();
    let swapped = failed(&paths[0]);
    assert!(swapped.contains("part 2 of 3, expected part 3 of 3"), "{swapped}");
    std::fs::remove_file(&paths[2]).unwrap();
    let missing = failed(&paths[0]);
    assert!(missing.contains("tiny-00003-of-00003.gguf") && missing.contains("1 of 3 parts"), "{missing}");
    let alone = folder.path("alone.gguf");
    std::fs::rename(&paths[1], &alone).unwrap();
    let misnamed = failed(&alone);
    assert!(misnamed.contains("it is not named like one"), "{misnamed}");
}

#[test]
fn ollama_s_names_are_known_in_parts_too() {
    let folder = Folder::new();
    let paths = write_split(&folder, "ollama", &Spec::tiny().layers(1).publisher(Publisher::Ollama), 2);
    verify(&paths[1]).expect(0);
}

/// gpt-oss-20b at its real size, against the facts of the public file: a header, and 12.1 GB of nothing that take no
/// room.
#[cfg(unix)]
#[test]
fn the_public_20b_file_s_facts() {
    let folder = Folder::new();
    let model = Spec::gpt_oss_20b().publisher(Publisher::Unsloth).data_offset(GOLDEN_20B_DATA_OFFSET).build().unwrap();
    let path = folder.write("20b.gguf", &model.header());
    std::fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(model.file_bytes()).unwrap();

    let dump = run(&["gguf", "dump", &path, "--json"]).expect(0).json();
    assert_eq!((&dump["tensor_count"], &dump["data_offset"]), (&json!(459), &json!(13_008_832)));
    let tensors = dump["tensors"].as_array().unwrap();
    let tensor = |name: &str| tensors.iter().find(|tensor| tensor["name"] == name).unwrap_or_else(|| panic!("{name}"));
    let embedding = tensor("token_embd.weight");
    assert_eq!((&embedding["shape"], &embedding["bytes"]), (&json!([2880, 201_088]), &json!(615_329_280)));
    let experts = tensor("blk.23.ffn_down_exps.weight");
    assert_eq!((&experts["shape"], &experts["type"]), (&json!([2880, 2880, 32]), &json!("MXFP4")));
    assert_eq!(experts["bytes"], 32 * 4_406_400);
    run(&["gate", "a", &path]).expect(0);

    // The last expert of the last layer lies beyond what 32 bits count.
    let arguments =
        ["gguf", "range", &path, "--json", "--tensor", "blk.23.ffn_down_exps.weight", "--offset", "136598400"];
    let range = run(&arguments).expect(0).json();
    assert_eq!((&range["len"], range["offset"].as_u64().unwrap() > 1 << 32), (&json!(4_406_400), true));
}
