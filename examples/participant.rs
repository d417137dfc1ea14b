//! The smallest participant: one resource in memory, with the fence that makes it safe.
//!
//! `cargo run --example participant`, then add `--participant seats=http://127.0.0.1:7071` to
//! `tercet serve`. Use `SqliteFence` or `PostgresFence` for anything that must survive a restart.

use tercet_sdk::participant::{
    Branch, Later, MemoryFence, Participant, Resource, TryError, refuse,
};

/// A theatre's free seats: the fence's data, changed only inside its transactions.
type Seats = u32;

#[derive(Clone, PartialEq, prost::Message)]
struct Book {
    #[prost(uint32, tag = "1")]
    seats: u32,
}

struct Booking;

impl Resource<Seats> for Booking {
    const NAME: &'static str = "book";
    type Request = Book;
    type Held = Book;

    async fn on_try(&self, free: &mut Seats, _: &Branch, book: Book) -> Result<Book, TryError> {
        let left = free.checked_sub(book.seats);
        *free = left.ok_or_else(|| refuse("SOLD_OUT").with("free", *free))?;
        Ok(book)
    }

    async fn on_confirm(&self, _: &mut Seats, _: &Branch, _: Book) -> Result<(), Later> {
        Ok(())
    }

    async fn on_cancel(&self, free: &mut Seats, _: &Branch, held: Book) -> Result<(), Later> {
        *free += held.seats;
        Ok(())
    }
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let address = std::env::args()
        .nth(1)
        .unwrap_or_else(|| "127.0.0.1:7071".into());
    println!("participant seats at {address}, resource book");
    let shutdown = async { tokio::signal::ctrl_c().await.unwrap_or_default() };
    let participant = Participant::new("seats", MemoryFence::new(100)).resource(Booking);
    Ok(participant.serve(address, shutdown).await?)
}
