//! What the files of the newer families mean, where a key is missing, older or somewhere else; and what is refused.

use irepair_arch::{Architecture, AttentionSpan, Error, RopeScaling, Slot};
use serde_json::{Value, json};

use AttentionSpan::{Global, Local};

/// Sizes in the keys of Llama's form.
fn of(model_type: &str, more: Value) -> Value {
    let mut config = json!({
        "model_type": model_type, "hidden_size": 64, "intermediate_size": 160, "num_hidden_layers": 4,
        "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 100, "rope_theta": 10000.0,
        "max_position_embeddings": 128,
    });
    config.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    config
}

fn read(config: Value) -> Result<Architecture, Error> {
    Architecture::from_json(config, "config.json".as_ref())
}

fn refused(config: Value) -> (String, String) {
    match read(config.clone()) {
        Err(Error::Unsupported { key, want, .. }) => (key, want),
        other => panic!("{config}: {other:?}"),
    }
}

fn thetas(a: &Architecture) -> Vec<Option<f64>> {
    (0..a.n_block).map(|b| a.positions.rope(b).map(|rope| rope.theta)).collect()
}

#[test]
fn a_missing_window_is_mistrals_own_and_a_null_is_none() {
    assert_eq!(read(of("mistral", json!({}))).unwrap().spans, [Local(4096); 4]);
    assert_eq!(read(of("mistral", json!({"sliding_window": null}))).unwrap().spans, [Global; 4]);
    let mut config = of("mistral", json!({}));
    config.as_object_mut().unwrap().remove("num_key_value_heads");
    assert_eq!(refused(config).0, "num_key_value_heads");
    // A file with mixed kinds is another model to transformers.
    let kinds =
        |kind: &str| of("mistral", json!({"sliding_window": 8, "layer_types": [kind, SLIDING, SLIDING, SLIDING]}));
    assert_eq!(read(kinds(SLIDING)).unwrap().spans, [Local(8); 4]);
    assert_eq!(refused(kinds("full_attention")).0, "layer_types");
}

#[test]
fn keys_of_windows_change_nothing_in_families_without_them() {
    let sizes = json!({"n_embd": 64, "n_layer": 4, "n_head": 4, "n_positions": 128, "hidden_act": "gelu",
                       "rotary_pct": 0.5, "rotary_emb_base": 10000});
    let keys = json!({"sliding_window": 3, "use_sliding_window": true, "max_window_layers": 0, "layer_types": [SLIDING, SLIDING, SLIDING, SLIDING]});
    for family in ["gpt2", "gpt_neox", "llama", "olmo2"] {
        let mut config = of(family, sizes.clone());
        if family == "llama" || family == "olmo2" {
            config["hidden_act"] = json!("silu");
        }
        let plain = read(config.clone()).unwrap();
        config.as_object_mut().unwrap().extend(keys.as_object().unwrap().clone());
        let with = read(config).unwrap();
        assert_eq!(with.spans, [Global; 4], "{family}");
        // All but the file's own keys, which are written back.
        let settings = |a: &Architecture| format!("{a:?}").split(", raw: ").next().unwrap().to_owned();
        assert_eq!(settings(&with), settings(&plain), "{family}");
    }
}

const SLIDING: &str = "sliding_attention";

#[test]
fn heads_may_be_no_quotient_and_qwen3s_are_128_wide_by_default() {
    assert_eq!(read(of("qwen3", json!({"head_dim": 24}))).unwrap().head_dim, 24);
    assert_eq!(read(of("qwen3", json!({}))).unwrap().head_dim, 128);
    let norms = read(of("qwen3", json!({"head_dim": 24}))).unwrap().parameters();
    let shape = |slot| norms.iter().find(|p| p.slot == slot).unwrap().shape.clone();
    assert_eq!((shape(Slot::QueryNorm), shape(Slot::KeyNorm)), (vec![24], vec![24]));
    let norms = read(of("olmo2", json!({}))).unwrap().parameters();
    let shape = |slot| norms.iter().find(|p| p.slot == slot).unwrap().shape.clone();
    assert_eq!((shape(Slot::QueryNorm), shape(Slot::KeyNorm)), (vec![64], vec![32]));
}

#[test]
fn smollm3s_list_says_one_where_a_block_rotates() {
    let fourth = read(of("smollm3", json!({}))).unwrap();
    assert_eq!(thetas(&fourth), [Some(1e4), Some(1e4), Some(1e4), None]);
    let listed = read(of("smollm3", json!({"no_rope_layers": [0, 1, 0, 1]}))).unwrap();
    assert_eq!(thetas(&listed), [None, Some(1e4), None, Some(1e4)]);
    assert!(fourth.tied_head, "true where the key is missing");
    assert_eq!(refused(of("smollm3", json!({"no_rope_layers": [1, 1]}))).0, "no_rope_layers");
    let window = json!({"use_sliding_window": true, "sliding_window": 8});
    assert_eq!(read(of("smollm3", window)).unwrap().spans, [Global, Global, Global, Local(8)]);
}

#[test]
fn pythias_base_and_share_have_names_of_their_own_and_no_default() {
    let more = json!({"rotary_emb_base": 500, "rotary_pct": 0.25});
    let mut config = of("gpt_neox", more.clone());
    config.as_object_mut().unwrap().remove("rope_theta");
    let a = read(config.clone()).unwrap();
    let rope = a.positions.rope(0).unwrap();
    assert_eq!((rope.theta, rope.n_rotated, a.parallel, a.interleaved_qkv), (500.0, 4, true, true));
    for key in ["rotary_emb_base", "rotary_pct"] {
        let mut config = config.clone();
        config.as_object_mut().unwrap().remove(key);
        assert_eq!(refused(config).0, key);
    }
    config["rotary_pct"] = json!(0.2);
    assert_eq!(refused(config).0, "rotary_pct", "three values are no pairs");
}

#[test]
fn gemma3s_published_file_is_sparse_and_every_key_it_lacks_has_the_class_default() {
    // The form of the published 4B model: a text model of which the file says what is not the default.
    let config = json!({
        "architectures": ["Gemma3ForConditionalGeneration"], "model_type": "gemma3", "eos_token_id": [1, 106],
        "text_config": {
            "hidden_size": 2560, "intermediate_size": 10240, "model_type": "gemma3_text", "num_hidden_layers": 34,
            "rope_scaling": {"factor": 8.0, "rope_type": "linear"}, "sliding_window": 1024,
        },
        "vision_config": {"model_type": "siglip_vision_model"},
    });
    let a = read(config.clone()).unwrap();
    assert_eq!((a.n_head, a.n_kv_head, a.head_dim, a.n_vocab, a.n_positions), (8, 4, 256, 262_208, 131_072));
    assert_eq!((a.spans[0], a.spans[5], a.spans[33]), (Local(1024), Global, Local(1024)));
    let (local, global) = (a.positions.rope(0).unwrap(), a.positions.rope(5).unwrap());
    assert_eq!((local.theta, &local.scaling), (1e4, &RopeScaling::None));
    assert_eq!((global.theta, &global.scaling), (1e6, &RopeScaling::Linear { factor: 8.0 }));
    assert_eq!((&a.eos_ids[..], a.tied_head, a.logit_softcap), (&[1, 106][..], true, None));
    // Written back as it was read.
    assert_eq!(serde_json::from_str::<Value>(&a.to_json()).unwrap(), config);
    // The published count, 4,300,079,472, less the vision tower (416,866,032) and the projector (2,950,272).
    assert_eq!(a.n_weights(), 4_300_079_472 - 416_866_032 - 2_950_272);
}

#[test]
fn a_half_filled_table_takes_each_base_from_the_key_outside_of_it() {
    let tables = json!({
        "rope_parameters": {
            "full_attention": {"factor": 8.0, "rope_type": "linear"}, "sliding_attention": {"rope_type": "default"},
        },
        "rope_theta": 20000.0, "rope_local_base_freq": 100.0, "head_dim": 16,
    });
    let a = read(of("gemma3_text", tables.clone())).unwrap();
    assert_eq!(thetas(&a), [Some(100.0); 4], "the first five blocks have a window");
    let mut short = tables;
    short["sliding_window_pattern"] = json!(2);
    assert_eq!(thetas(&read(of("gemma3_text", short.clone())).unwrap()), [100.0, 2e4, 100.0, 2e4].map(Some));
    short["rope_parameters"]["full_attention"]["rope_theta"] = json!(3.0);
    assert_eq!(refused(of("gemma3_text", short)).0, "rope_parameters.full_attention.rope_theta");
}

#[test]
fn what_gemma_computes_elsewhere_is_refused() {
    assert_eq!(refused(of("gemma2", json!({"use_bidirectional_attention": true}))).0, "use_bidirectional_attention");
    assert_eq!(refused(of("gemma2", json!({"sliding_window": null}))).0, "sliding_window");
    assert_eq!(refused(of("gemma3_text", json!({"attn_logit_softcapping": 50.0}))).0, "attn_logit_softcapping");
    let a = read(of("gemma2", json!({"head_dim": 16, "final_logit_softcapping": null}))).unwrap();
    assert_eq!(
        (a.attention_softcap, a.logit_softcap, a.spans),
        (Some(50.0), None, vec![Local(4096), Global, Local(4096), Global])
    );
}

#[test]
fn phi3s_scaling_has_three_names_and_a_factor_that_follows() {
    let config = |name: &str, more: Value| {
        let mut scaling = json!({"type": name, "short_factor": vec![1.5; 8], "long_factor": vec![4.0; 8]});
        scaling.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        of("phi3", json!({"rope_scaling": scaling, "original_max_position_embeddings": 32}))
    };
    for name in ["longrope", "su", "yarn"] {
        let a = read(config(name, json!({}))).unwrap();
        let RopeScaling::LongRope { attention_factor, original, .. } = a.positions.rope(3).unwrap().scaling else {
            panic!("{name}")
        };
        assert_eq!((original, attention_factor), (32.0, (1.0 + 4f64.ln() / 32f64.ln()).sqrt()));
    }
    assert_eq!(refused(config("longrope", json!({"factor": 2.0}))).0, "rope_scaling.factor");
    assert_eq!(refused(config("longrope", json!({"short_factor": [1.0]}))).0, "rope_scaling.short_factor");
    assert_eq!(refused(config("linear", json!({"factor": 2.0}))).0, "rope_scaling.type");
}

#[test]
fn what_transformers_reads_otherwise_is_refused_by_key() {
    let window = json!({"layer_types": ["full_attention", "full_attention", "sliding_attention", "full_attention"],
                        "sliding_window": 3});
    let flat = json!({"rope_parameters": {"rope_type": "linear", "factor": 8.0}});
    let by_kind = json!({"rope_scaling": {"full_attention": {"rope_type": "linear", "factor": 8.0}}});
    let yarn = json!({"rope_type": "yarn", "factor": 8.0, "original_max_position_embeddings": 32, "truncate": false});
    let inner = json!({"rope_scaling": {"type": "longrope", "short_factor": vec![1.5; 8], "long_factor": vec![4.0; 8],
                       "original_max_position_embeddings": 32}});
    let neox = |key: &str, value: Value| {
        let mut config = json!({"rotary_emb_base": 500, "rotary_pct": 0.25});
        config[key] = value;
        config
    };
    for (family, more, key) in [
        ("llama", json!({"is_causal": false}), "is_causal"),
        ("smollm3", window, "layer_types"),
        ("gemma3_text", flat, "rope_parameters"),
        ("gemma3_text", by_kind, "rope_scaling.full_attention"),
        (
            "gemma3_text",
            json!({"rope_parameters": {"full_attention": yarn}}),
            "rope_parameters.full_attention.truncate",
        ),
        ("phi3", inner, "original_max_position_embeddings"),
        ("gpt_neox", neox("head_dim", json!(32)), "head_dim"),
        ("gpt_neox", neox("rotary_pct", Value::Null), "rotary_pct"),
        ("qwen2", json!({"auto_map": {"AutoModelForCausalLM": "modeling_own.Own"}}), "auto_map"),
    ] {
        assert_eq!(refused(of(family, more)).0, key, "{family}");
    }
    let part = |more: Value| {
        let mut text = of("gemma3_text", json!({"head_dim": 16}));
        text.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        json!({"model_type": "gemma3", "text_config": text})
    };
    let capped = part(json!({"final_logit_softcapping": 3.0}));
    assert_eq!(refused(capped).0, "text_config.final_logit_softcapping");
    assert!(read(part(json!({"tie_word_embeddings": false}))).unwrap().tied_head, "the whole model's key counts");
}

#[test]
fn what_transformers_reads_and_others_write_loads() {
    // The published Phi-3 names the code that it had before transformers did.
    let phi3 = json!({"auto_map": {"AutoConfig": "configuration_phi3.Phi3Config",
                                   "AutoModelForCausalLM": "microsoft/Phi-3--modeling_phi3.Phi3ForCausalLM"}});
    assert!(read(of("phi3", phi3)).is_ok());
    // A pattern under the name that transformers 5 writes is not read by it.
    let pattern = json!({"_sliding_window_pattern": 2, "head_dim": 16});
    assert_eq!(read(of("gemma3_text", pattern)).unwrap().spans, [Local(4096); 4]);
    let mut base = of("gemma3_text", json!({"head_dim": 16, "sliding_window_pattern": 1}));
    base.as_object_mut().unwrap().remove("rope_theta");
    base["rope_scaling"] = json!({"rope_type": "linear", "factor": 8.0, "rope_theta": 5e5});
    assert_eq!(thetas(&read(base).unwrap()), [Some(5e5); 4]);
}

#[test]
fn models_that_are_no_plain_decoder_are_refused_with_the_reason() {
    for (model_type, reason) in [
        ("qwen3_moe", "a mixture of experts"),
        ("mixtral", "a mixture of experts"),
        ("qwen3_5", "a hybrid of attention and linear attention"),
        ("qwen2_5_vl", "a model of text and images"),
        ("gemma4", "embeddings and states of its own"),
        ("mamba2", "a state space model"),
    ] {
        let (key, want) = refused(of(model_type, json!({})));
        assert!(key == "model_type" && want.contains(model_type) && want.contains(reason), "{want}");
    }
    assert!(!refused(of("no_such_model", json!({}))).1.contains(';'));
    assert_eq!(refused(json!({"model_type": "gemma3"})).0, "text_config");
    let other = json!({"model_type": "gemma3", "text_config": {"model_type": "llama"}});
    assert_eq!(refused(other).0, "text_config.model_type");
}

#[test]
fn published_models_have_their_published_weights() {
    let sizes = |[width, inner, blocks, heads, kv, vocab]: [u32; 6]| {
        json!({
            "hidden_size": width, "intermediate_size": inner, "num_hidden_layers": blocks, "num_attention_heads": heads,
            "num_key_value_heads": kv, "vocab_size": vocab, "rotary_emb_base": 10000.0, "rotary_pct": 0.25,
        })
    };
    // Name, family, sizes, other keys, and the count that its card or its files give.
    let models = [
        ("Qwen2.5-0.5B", "qwen2", [896, 4864, 24, 14, 2, 151_936], json!({"tie_word_embeddings": true}), 494_032_768),
        (
            "Qwen3-0.6B",
            "qwen3",
            [1024, 3072, 28, 16, 8, 151_936],
            json!({"head_dim": 128, "tie_word_embeddings": true}),
            596_049_920,
        ),
        ("Mistral-7B-v0.1", "mistral", [4096, 14_336, 32, 32, 8, 32_000], json!({}), 7_241_732_096),
        ("pythia-70m", "gpt_neox", [512, 2048, 6, 8, 8, 50_304], json!({}), 70_426_624),
        ("OLMo-2-0425-1B", "olmo2", [2048, 8192, 16, 16, 16, 100_352], json!({}), 1_484_916_736),
        ("gemma-2-2b", "gemma2", [2304, 9216, 26, 8, 4, 256_000], json!({}), 2_614_341_888),
        ("Phi-3-mini-4k-instruct", "phi3", [3072, 8192, 32, 32, 32, 32_064], json!({}), 3_821_079_552),
        ("SmolLM3-3B", "smollm3", [2048, 11_008, 36, 16, 4, 128_256], json!({}), 3_075_098_624),
    ];
    for (name, family, shape, more, count) in models {
        let mut config = of(family, sizes(shape));
        config.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        assert_eq!(read(config).unwrap().n_weights(), count, "{name}");
    }
}
