//! The table that marks packets to be traced, and its end.

use std::net::IpAddr;

use anyhow::{Context as _, bail};
use kube_proxy_netlink::nf_tables::{
    ADDRESS_TYPE_LOCAL, ChainType, Comparison, CtKey, Expression, FibAddress, Hook, HookPoint,
    MetaKey, NfTables, PayloadBase, Register, Transaction, ct_state,
};
use kube_proxy_netlink::writer::TooLong;
use kube_proxy_netlink::{Errno, Error, Family};

use super::super::frontends::Destination;

/// The name of the table, in each family that is traced.
pub(super) const TABLE: &str = "kube-proxy-trace";
/// Behind connection tracking (-200), before every chain of ours.
const PRIORITY: i32 = -190;
const CHAINS: [(&str, HookPoint); 2] =
    [("prerouting", HookPoint::Prerouting), ("output", HookPoint::Output)];
/// The value that a comparison is made with.
const R: Register = Register::word(0);

/// The tables, for as long as this lives: the kernel deletes those that have an owner with its socket.
pub(super) struct Marks {
    tables: Vec<(Family, NfTables)>,
    owned: bool,
}

impl Marks {
    /// Makes the tables. What a killed command of an older kernel left is replaced.
    pub(super) fn set(destinations: &[Destination], from: Option<IpAddr>) -> anyhow::Result<Self> {
        let mut marks = Self { tables: Vec::new(), owned: true };
        for family in [Family::V4, Family::V6] {
            let rules: Vec<_> =
                destinations.iter().filter_map(|to| rule(*to, from, family)).collect();
            if rules.is_empty() {
                continue;
            }
            let mut netlink = NfTables::open(family)?;
            let there = netlink.table(TABLE)?.is_some();
            let mut result = commit(&mut netlink, family, &rules, there, marks.owned);
            if marks.owned && result.as_ref().is_err_and(has_no_owners) {
                marks.owned = false;
                result = commit(&mut netlink, family, &rules, there, false);
            }
            match result {
                Ok(()) => marks.tables.push((family, netlink)),
                Err(error) if there => {
                    marks.remove();
                    bail!(
                        "another kube-proxy trace runs on this node: its table {TABLE} is in use ({error})"
                    )
                }
                Err(error) => {
                    marks.remove();
                    return Err(error).context("cannot mark packets to be traced");
                }
            }
        }
        if marks.tables.is_empty() {
            bail!("--from is of another IP family than the destination");
        }
        Ok(marks)
    }

    /// Whether the kernel deletes the tables by itself.
    pub(super) fn is_owned(&self) -> bool {
        self.owned
    }

    /// Deletes the tables.
    pub(super) fn remove(mut self) {
        for (family, netlink) in &mut self.tables {
            let mut transaction = Transaction::new(*family, TABLE);
            if transaction.delete_table().is_ok() {
                // What has an owner goes with it in any case.
                let _ = netlink.commit(&mut transaction);
            }
        }
    }
}

/// Kernels before 5.12 know no owners.
fn has_no_owners(error: &Error) -> bool {
    matches!(error.errno(), Some(Errno::EINVAL | Errno::EOPNOTSUPP))
}

fn commit(
    netlink: &mut NfTables,
    family: Family,
    rules: &[Vec<Expression>],
    there: bool,
    owned: bool,
) -> Result<(), Error> {
    let too_long =
        |too_long| Error::TooLong { object: format!("transaction for table {TABLE}"), too_long };
    let mut transaction = Transaction::new(family, TABLE);
    write(&mut transaction, rules, there, owned).map_err(too_long)?;
    netlink.commit(&mut transaction)
}

fn write(
    transaction: &mut Transaction,
    rules: &[Vec<Expression>],
    there: bool,
    owned: bool,
) -> Result<(), TooLong> {
    if there {
        transaction.delete_table()?;
    }
    if owned {
        transaction.add_owned_table(&[])?;
    } else {
        transaction.add_table(&[])?;
    }
    for (name, point) in CHAINS {
        let hook = Hook { kind: ChainType::Filter, point, priority: PRIORITY };
        transaction.add_chain(name, Some(hook), "packets that kube-proxy trace follows")?;
        for rule in rules {
            transaction.add_rule(name, rule, &[])?;
        }
    }
    Ok(())
}

/// The rule for one destination; `None` if it or the source is of the other family.
fn rule(to: Destination, from: Option<IpAddr>, family: Family) -> Option<Vec<Expression>> {
    let is_other = |ip: &IpAddr| Family::of(*ip) != family;
    if to.ip.as_ref().is_some_and(is_other) || from.as_ref().is_some_and(is_other) {
        return None;
    }
    let (source, destination, length) = match family {
        Family::V4 => (12, 16, 4),
        Family::V6 => (8, 24, 16),
    };
    let address = |ip: IpAddr, offset| {
        let payload = Expression::Payload { base: PayloadBase::Network, offset, length, to: R };
        let value = match ip {
            IpAddr::V4(ip) => ip.octets().to_vec(),
            IpAddr::V6(ip) => ip.octets().to_vec(),
        };
        [payload, equal(value)]
    };
    let mut rule = Vec::new();
    match to.ip {
        Some(ip) => rule.extend(address(ip, destination)),
        None => rule.extend([
            Expression::FibAddressType { of: FibAddress::Destination, to: R },
            equal(ADDRESS_TYPE_LOCAL.to_ne_bytes().to_vec()),
        ]),
    }
    if let Some(ip) = from {
        rule.extend(address(ip, source));
    }
    rule.extend([
        Expression::Meta { key: MetaKey::TransportProtocol, to: R },
        equal(vec![to.protocol]),
        Expression::Payload { base: PayloadBase::Transport, offset: 2, length: 2, to: R },
        equal(to.port.to_be_bytes().to_vec()),
        // Later packets of a connection pass by the rules for Services.
        Expression::Ct { key: CtKey::State, to: R },
        Expression::Bitwise {
            from: R,
            to: R,
            mask: (ct_state::NEW | ct_state::INVALID | ct_state::UNTRACKED).to_ne_bytes().to_vec(),
            xor: vec![0; 4],
        },
        Expression::Compare { comparison: Comparison::NotEqual, register: R, value: vec![0; 4] },
        Expression::Immediate { value: vec![1], to: R },
        Expression::SetMeta { key: MetaKey::Trace, from: R },
    ]);
    Some(rule)
}

fn equal(value: Vec<u8>) -> Expression {
    Expression::Compare { comparison: Comparison::Equal, register: R, value }
}
