//! The binary `oob`, from outside: what people, scripts and browsers meet.

mod alerts;
mod api;
mod backup;
mod bad_input;
mod browser;
mod cli;
mod completions;
mod corpus;
mod crash;
mod crowd;
mod demo;
mod doctor;
mod gate;
mod harness;
mod island;
mod netlab;
mod netlab_bridge;
mod netlab_line;
mod newcomer;
mod openapi;
mod org;
mod service;
mod web;
