//! `addresses`.

use super::{Answer, Reply, Shared, body::Json, peers::found_by_word};
use crate::schema::{Address, AddressAdd, Addresses, KnownAddress};
use axum::extract::State;

pub(super) async fn add(
    State(shared): State<Shared>,
    Json(add): Json<AddressAdd>,
) -> Answer<Address> {
    let address = shared.node.addresses().add(&add.address).await?;
    Ok(Reply(Address { address }))
}

pub(super) async fn list(State(shared): State<Shared>) -> Reply<Addresses> {
    let mut addresses: Vec<KnownAddress> = shared
        .node
        .addresses()
        .list()
        .into_iter()
        .map(|known| KnownAddress {
            address: known.address,
            found_by: found_by_word(known.found_by).to_owned(),
            device: known.device.map(|device| device.to_string()),
            member_name: known.member_name,
        })
        .collect();
    addresses.sort_by_key(|known| (known.found_by != "typed", known.address.clone()));
    Reply(Addresses { addresses })
}
