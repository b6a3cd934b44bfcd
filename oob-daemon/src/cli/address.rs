//! `address`: where other devices are.

use super::{connect, printer::Printer};
use crate::{
    failure::Failure,
    place,
    schema::{Address, AddressAdd, Addresses},
    settings::Home,
};

pub(super) async fn add(address: &str, home: &Home, printer: &Printer) -> Result<(), Failure> {
    let mut client = connect(home).await?;
    let added: Address =
        client.post("/api/v1/addresses", &AddressAdd { address: address.to_owned() }).await?;
    printer.data(&added, |added| format!("will try {}", added.address));
    Ok(())
}

pub(super) async fn list(home: &Home, printer: &Printer) -> Result<(), Failure> {
    let mut client = connect(home).await?;
    let known: Addresses = client.get("/api/v1/addresses").await?;
    for address in &known.addresses {
        printer.data(address, |address| {
            let whose = address.member_name.as_deref().unwrap_or("somebody");
            format!("{}  {whose}, found {}", address.address, place::found(&address.found_by))
        });
    }
    if known.addresses.is_empty() {
        printer.talk("no addresses are known; add one: oob address add 192.168.1.7:4801");
    }
    Ok(())
}
