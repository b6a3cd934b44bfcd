//! The binary `oob`, from outside: what people, scripts and browsers meet.

mod api;
mod bad_input;
mod browser;
mod cli;
mod demo;
mod harness;
mod netlab;
mod newcomer;
mod web;
