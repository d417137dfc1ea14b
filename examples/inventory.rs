//! The shop's inventory as a server of its own: `cargo run --example inventory -- ADDRESS FILE`.

#[path = "shop/inventory.rs"]
mod inventory;
#[path = "shop/serve.rs"]
mod serve;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let (address, file) = serve::arguments("127.0.0.1:7071", "inventory.db");
    let fence = inventory::open(&file).await?;
    serve::serve(inventory::participant(fence), &address).await
}
