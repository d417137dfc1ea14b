//! The shop's orders as a server of their own: `cargo run --example order -- ADDRESS FILE`.

#[path = "shop/order.rs"]
mod order;
#[path = "shop/serve.rs"]
mod serve;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let (address, file) = serve::arguments("127.0.0.1:7072", "order.db");
    let fence = order::open(&file).await?;
    serve::serve(order::participant(fence), &address).await
}
