//! The families: one file each, and one line here.

use crate::Family;

/// Declares the family files and lists their families.
macro_rules! families {
    ($($module:ident::$name:ident,)*) => {
        $(
            mod $module;
            pub use $module::$name;
        )*

        /// Every family that is read, in the order of messages and flags.
        pub static FAMILIES: &[&Family] = &[$(&$name),*];
    };
}

families! {
    gpt2::GPT2,
    gpt_neo::GPT_NEO,
    llama::LLAMA,
    qwen2::QWEN2,
    qwen3::QWEN3,
    mistral::MISTRAL,
    gpt_neox::GPT_NEOX,
    olmo2::OLMO2,
    gemma2::GEMMA2,
    gemma3::GEMMA3,
    phi3::PHI3,
    smollm3::SMOLLM3,
}
