//! What the component model's types look like in Rust: generated from the interfaces that the SDK ships.
//!
//! Only exports are generated, with borrowed parameters. The imports are linked by hand ([`super::state`]), since the
//! generated ones would copy each list before the host sees it.

/// The typed interface.
pub(super) mod typed {
    wasmtime::component::bindgen!({
        path: "../plugin-sdk/wit",
        inline: "package midplane:host; world typed { export midplane:plugin/processor@0.1.0; }",
        world: "midplane:host/typed",
        ownership: Borrowing { duplicate_if_necessary: true },
    });
}

/// The columnar interface.
pub(super) mod columnar {
    wasmtime::component::bindgen!({
        path: "../plugin-sdk/wit",
        inline: "package midplane:host; world columnar { export midplane:plugin/batch-processor@0.1.0; }",
        world: "midplane:host/columnar",
        // The same types, made once.
        with: { "midplane:plugin/types": super::typed::midplane::plugin::types },
        ownership: Borrowing { duplicate_if_necessary: true },
    });
}
