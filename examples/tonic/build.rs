//! Generates the client and the server of a service that is described here, which needs no `protoc`.
//! From a .proto file, `tonic-prost-build` generates the same.

use tonic_build::manual::{Builder, Method, Service};

fn main() {
    let ask = Method::builder()
        .name("ask")
        .route_name("Ask")
        .input_type("crate::Question")
        .output_type("crate::Answer")
        .codec_path("tonic_prost::ProstCodec")
        .build();
    let answers = Service::builder()
        .package("example")
        .name("Answers")
        .method(ask)
        .build();
    Builder::new().compile(&[answers]);
}
