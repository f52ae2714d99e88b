//! Nodes and ServiceCIDRs.

use super::fault::Fault;
use super::wire::Value;
use super::{Message, message, push_message, push_text, text};
use crate::slim::{Node, NodeAddress, NodeSpec, NodeStatus, ServiceCidr, ServiceCidrSpec, Taint};

impl<'a> Message<'a> for Node<'a> {
    fn field(&mut self, field: u32, value: Value<'a>) -> Result<(), Fault> {
        match field {
            1 => message(&mut self.metadata, "metadata", value),
            2 => message(&mut self.spec, "spec", value),
            3 => message(&mut self.status, "status", value),
            _ => Ok(()),
        }
    }
}

impl<'a> Message<'a> for NodeSpec<'a> {
    fn field(&mut self, field: u32, value: Value<'a>) -> Result<(), Fault> {
        match field {
            1 => text(&mut self.pod_cidr, "podCIDR", value),
            5 => push_message(&mut self.taints, "taints", value),
            7 => push_text(&mut self.pod_cidrs, "podCIDRs", value),
            _ => Ok(()),
        }
    }
}

impl<'a> Message<'a> for Taint<'a> {
    fn field(&mut self, field: u32, value: Value<'a>) -> Result<(), Fault> {
        match field {
            1 => text(&mut self.key, "key", value),
            _ => Ok(()),
        }
    }
}

impl<'a> Message<'a> for NodeStatus<'a> {
    fn field(&mut self, field: u32, value: Value<'a>) -> Result<(), Fault> {
        match field {
            5 => push_message(&mut self.addresses, "addresses", value),
            _ => Ok(()),
        }
    }
}

impl<'a> Message<'a> for NodeAddress<'a> {
    fn field(&mut self, field: u32, value: Value<'a>) -> Result<(), Fault> {
        match field {
            1 => text(&mut self.type_, "type", value),
            2 => text(&mut self.address, "address", value),
            _ => Ok(()),
        }
    }
}

impl<'a> Message<'a> for ServiceCidr<'a> {
    fn field(&mut self, field: u32, value: Value<'a>) -> Result<(), Fault> {
        match field {
            1 => message(&mut self.metadata, "metadata", value),
            2 => message(&mut self.spec, "spec", value),
            _ => Ok(()),
        }
    }
}

impl<'a> Message<'a> for ServiceCidrSpec<'a> {
    fn field(&mut self, field: u32, value: Value<'a>) -> Result<(), Fault> {
        match field {
            1 => push_text(&mut self.cidrs, "cidrs", value),
            _ => Ok(()),
        }
    }
}
