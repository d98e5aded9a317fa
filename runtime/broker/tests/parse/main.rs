//! Objects as clang makes them, and what becomes of them.

mod features;
mod images;
mod objects;
