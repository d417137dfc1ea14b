//! The smallest client: books two seats, exactly once, whatever happens on the way.
//!
//! `cargo run --example client -- order-7`, with a coordinator on its default port that knows the
//! participant `seats` of `examples/participant.rs`.

use tercet_sdk::client::{Client, Outcome, Submit};

#[derive(Clone, PartialEq, prost::Message)]
struct Book {
    #[prost(uint32, tag = "1")]
    seats: u32,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let id = std::env::args().nth(1).unwrap_or_else(|| "order-1".into());
    let tercet = Client::new("http://127.0.0.1:7070")?;
    let order = Submit::new(id).branch("seats", "book", &Book { seats: 2 });
    match tercet.submit(&order).await? {
        Outcome::Success(transaction) => println!("{} is booked", transaction.id()),
        Outcome::Failed(failed) => println!("not booked: {} {}", failed.reason, failed.message),
        Outcome::Processing(order) => {
            println!(
                "{} is not finished; ask again with the same id",
                order.transaction_id()
            );
        }
    }
    Ok(())
}
