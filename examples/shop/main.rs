//! A shop whose orders, stock and payments live in different services, each with its own database,
//! and a coordinator between them: all as real processes that are killed, stopped and restarted.
//!
//! `cargo run --release --example shop` runs five scenes and ends with an account of every chair and
//! every cent. It starts itself again as each of its servers.

mod books;
mod coordinator;
mod inventory;
mod order;
mod payment;
mod process;
mod scenes;
mod serve;
mod timeline;

use std::path::Path;

use anyhow::{Context as _, bail};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match &arguments[..] {
        [] => play().await,
        ["inventory", address, file] => {
            serve::serve(
                inventory::participant(inventory::open(file).await?),
                address,
            )
            .await
        }
        ["order", address, file] => {
            serve::serve(order::participant(order::open(file).await?), address).await
        }
        ["payment", address, file] => {
            serve::serve(payment::participant(payment::open(file).await?), address).await
        }
        ["coordinator", flags @ ..] => coordinator::serve(flags).await,
        _ => bail!("run it without arguments; it starts its own servers"),
    }
}

async fn play() -> anyhow::Result<()> {
    let folder = std::env::temp_dir().join(format!("tercet-shop-{}", std::process::id()));
    std::fs::create_dir_all(&folder).context("a folder for the databases")?;
    println!(
        "The shop opens; its databases are in {}.\n",
        folder.display()
    );
    let result = open_shop(&folder).await;
    if result.is_ok() {
        std::fs::remove_dir_all(&folder).context("removing the databases")?;
    }
    result
}

async fn open_shop(folder: &Path) -> anyhow::Result<()> {
    let mut shop = process::Shop::open(folder).await?;
    let before = books::read(folder).await?;
    println!("{before}");
    let mut kept = books::Expected::default();
    scenes::success(&mut shop, &mut kept).await?;
    scenes::out_of_stock(&mut shop, &mut kept).await?;
    scenes::participant_dies(&mut shop, &mut kept).await?;
    scenes::black_hole(&mut shop, &mut kept).await?;
    scenes::coordinator_dies(&mut shop, &mut kept).await?;
    shop.close().await?;
    let after = books::read(folder).await?;
    println!("{after}");
    books::compare(&before, &after, &kept)?;
    println!("Every chair and every cent is accounted for.");
    Ok(())
}
