//! Settings that transformers would compute otherwise are refused by key, and none is silently replaced by a default.

use irepair_arch::{Architecture, AttentionSpan, Error, RopeScaling};
use serde_json::{Value, json};

fn llama() -> Value {
    json!({
        "model_type": "llama", "hidden_size": 64, "intermediate_size": 160, "num_hidden_layers": 2,
        "num_attention_heads": 4, "vocab_size": 100, "rope_theta": 10000.0, "max_position_embeddings": 128,
    })
}

fn gpt2() -> Value {
    json!({"model_type": "gpt2", "n_layer": 1, "n_embd": 8, "n_head": 2, "n_positions": 16, "vocab_size": 10})
}

fn read(mut config: Value, changes: &[(&str, Value)]) -> Result<Architecture, Error> {
    for (key, value) in changes {
        config[*key] = value.clone();
    }
    Architecture::from_json(config, "config.json".as_ref())
}

fn refused_key(config: Value, changes: &[(&str, Value)]) -> String {
    match read(config, changes) {
        Err(Error::Unsupported { key, .. }) => key,
        other => panic!("{changes:?}: {other:?}"),
    }
}

#[test]
fn a_null_is_not_the_default() {
    for key in ["scale_attn_weights", "activation_function", "layer_norm_epsilon"] {
        assert_eq!(refused_key(gpt2(), &[(key, Value::Null)]), key);
    }
    for key in ["hidden_act", "rms_norm_eps"] {
        assert_eq!(refused_key(llama(), &[(key, Value::Null)]), key);
    }
    // transformers takes null for false here.
    assert!(!read(gpt2(), &[("tie_word_embeddings", Value::Null)]).unwrap().tied_head);
    assert!(read(gpt2(), &[]).unwrap().tied_head);
}

#[test]
fn qwen2s_windows_are_those_of_its_layer_types_or_begin_at_a_named_block() {
    let qwen2 = |more: &[(&str, Value)]| {
        let base = [("model_type", json!("qwen2")), ("num_key_value_heads", json!(4))];
        read(llama(), &[&base, more].concat())
    };
    let window = [("use_sliding_window", json!(true)), ("sliding_window", json!(8))];
    let kinds = ("layer_types", json!(["sliding_attention", "full_attention"]));
    let spans = qwen2(&[&window[..], &[kinds]].concat()).unwrap().spans;
    assert_eq!(spans, [AttentionSpan::Local(8), AttentionSpan::Global]);
    let spans = qwen2(&[&window[..], &[("max_window_layers", json!(1))]].concat()).unwrap().spans;
    assert_eq!(spans, [AttentionSpan::Global, AttentionSpan::Local(8)]);
    assert!(matches!(qwen2(&window), Err(Error::Unsupported { key, .. }) if key == "max_window_layers"));
}

#[test]
fn rotary_settings_by_layer_type_are_refused() {
    let by_type = json!({"full_attention": {"rope_type": "linear", "factor": 2.0, "rope_theta": 10000.0}});
    assert_eq!(refused_key(llama(), &[("rope_parameters", by_type)]), "rope_parameters.full_attention");
}

#[test]
fn an_outer_original_context_must_agree_with_the_inner_one() {
    let scaling = |original: Option<u32>| {
        let mut scaling = json!({"rope_type": "yarn", "factor": 4.0});
        original.iter().for_each(|n| scaling["original_max_position_embeddings"] = json!(n));
        ("rope_scaling", scaling)
    };
    let outer = ("original_max_position_embeddings", json!(32));
    assert_eq!(refused_key(llama(), &[scaling(Some(64)), outer.clone()]), outer.0);
    assert_eq!(refused_key(llama(), &[scaling(None), outer.clone()]), outer.0);
    let agreed = read(llama(), &[scaling(Some(32)), outer.clone()]).unwrap();
    let rope = agreed.positions.rope(0).unwrap();
    assert!(matches!(rope.scaling, RopeScaling::Yarn { original: 32.0, .. }), "{rope:?}");
    // Without a scaling that reads it, the key has no effect.
    assert!(read(llama(), &[outer]).is_ok());
}

#[test]
fn a_partial_rotation_is_refused_whatever_its_type() {
    for share in [json!(0.5), json!("0.5")] {
        assert_eq!(refused_key(llama(), &[("partial_rotary_factor", share)]), "partial_rotary_factor");
    }
    assert!(read(llama(), &[("partial_rotary_factor", json!(1.0))]).is_ok());
}
