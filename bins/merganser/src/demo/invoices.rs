//! Purchases as shopping sessions: each invoice is a session of its customer, or of a guest named
//! by the invoice where the file names no customer.

use std::collections::BTreeMap;
use std::io::Read;

use anyhow::{Context as _, Result, ensure};
use serde::Deserialize;

/// The purchases that come with the program: see `data/README.md` for their origin and licence.
pub(crate) const BUNDLED: &str = include_str!("../../data/online_retail_10k.csv");

#[derive(Deserialize)]
struct Row {
    invoice: String,
    stock_code: String,
    quantity: i64,
    customer: String,
}

/// One line of an invoice. A negative quantity takes units out of the cart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Line {
    pub(crate) item: String,
    pub(crate) quantity: i64,
}

/// The sessions of one shopper, in the order of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Shopper {
    pub(crate) name: String,
    pub(crate) sessions: Vec<Vec<Line>>,
}

/// Reads purchases; shoppers come in the order of their first invoice.
pub(crate) fn read(source: impl Read) -> Result<Vec<Shopper>> {
    let mut shoppers: Vec<Shopper> = Vec::new();
    let mut known = BTreeMap::<String, usize>::new();
    let mut invoice = None;
    for (number, row) in csv::Reader::from_reader(source).deserialize().enumerate() {
        // Line 1 is the header.
        let row: Row = row.with_context(|| format!("line {}", number + 2))?;
        let name = match row.customer.as_str() {
            "" => format!("guest-{}", row.invoice),
            customer => customer.to_owned(),
        };
        let at = *known.entry(name.clone()).or_insert_with(|| {
            shoppers.push(Shopper { name, sessions: Vec::new() });
            shoppers.len() - 1
        });
        let sessions = &mut shoppers[at].sessions;
        if invoice.as_ref() != Some(&row.invoice) || sessions.is_empty() {
            sessions.push(Vec::new());
            invoice = Some(row.invoice);
        }
        if let Some(session) = sessions.last_mut() {
            session.push(Line { item: row.stock_code, quantity: row.quantity });
        }
    }
    ensure!(!shoppers.is_empty(), "no purchases in the file");
    Ok(shoppers)
}

/// What every cart holds when each shopper's sessions are followed one after another, from the
/// file alone: per shopper and item the units.
pub(crate) fn totals(shoppers: &[Shopper]) -> BTreeMap<String, BTreeMap<String, u64>> {
    let mut totals = BTreeMap::new();
    for shopper in shoppers {
        let cart: &mut BTreeMap<String, u64> = totals.entry(shopper.name.clone()).or_default();
        for line in shopper.sessions.iter().flatten() {
            let held = cart.get(&line.item).copied().unwrap_or(0);
            let units = line.quantity.unsigned_abs();
            match if line.quantity > 0 { held + units } else { held.saturating_sub(units) } {
                0 => cart.remove(&line.item),
                left => cart.insert(line.item.clone(), left),
            };
        }
    }
    totals
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bundled_file_holds_512_sessions_of_391_shoppers() {
        let shoppers = read(BUNDLED.as_bytes()).unwrap();
        assert_eq!(shoppers.len(), 391);
        assert_eq!(shoppers.iter().map(|shopper| shopper.sessions.len()).sum::<usize>(), 512);
        let units: u64 = totals(&shoppers).values().flat_map(BTreeMap::values).sum();
        assert_eq!(units, 90_424);
    }

    #[test]
    fn an_invoice_without_customer_is_a_guest_of_its_own() {
        let file = "invoice,stock_code,quantity,customer\n1,a,2,\n1,b,1,\n2,a,5,\n3,a,1,ada\n";
        let names: Vec<_> =
            read(file.as_bytes()).unwrap().into_iter().map(|shopper| shopper.name).collect();
        assert_eq!(names, ["guest-1", "guest-2", "ada"]);
    }

    #[test]
    fn negative_lines_take_out_what_the_cart_holds_and_no_more() {
        let file = "invoice,stock_code,quantity,customer\n1,a,5,x\nC2,a,-2,x\nC3,b,-1,x\n4,c,1,x\nC5,c,-9,x\n";
        let totals = totals(&read(file.as_bytes()).unwrap());
        assert_eq!(totals["x"], BTreeMap::from([("a".to_owned(), 3)]));
    }

    #[test]
    fn a_malformed_line_is_named() {
        let error =
            read("invoice,stock_code,quantity,customer\n1,a,many,x\n".as_bytes()).unwrap_err();
        assert_eq!(error.to_string(), "line 2");
    }
}
