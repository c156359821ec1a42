//! `cridge config migrate`: what configurations of each version become, what the defaults of real containerds become, and
//! the command itself.

mod command;
mod defaults;
mod golden;
