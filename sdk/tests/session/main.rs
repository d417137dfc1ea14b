//! A participant that connects out, against a coordinator that does what each test says, frame by
//! frame: connections in memory, time that passes only when nothing else can happen.

mod calls;
mod coordinator;
mod ending;
mod reconnecting;
