//! What wit-bindgen makes of `wit/plugin.wit`, for the columnar world. Nothing here is written by hand.

wit_bindgen::generate!({
    path: "wit",
    world: "batch-plugin",
    pub_export_macro: true,
    default_bindings_module: "midplane_plugin::bindings",
});
