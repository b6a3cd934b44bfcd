//! The binary `oob`, from outside: what people, scripts and browsers meet.

mod alerts;
mod api;
mod bad_input;
mod browser;
mod cli;
mod completions;
mod demo;
mod doctor;
mod harness;
mod island;
mod netlab;
mod newcomer;
mod openapi;
mod web;
