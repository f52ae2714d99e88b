//! EndpointSlices.

use super::fault::Fault;
use super::wire::Value;
use super::{Message, flag, message, number, push_message, push_text, text};
use crate::slim::{Conditions, Endpoint, EndpointPort, EndpointSlice, Hint, Hints};

impl<'a> Message<'a> for EndpointSlice<'a> {
    fn field(&mut self, field: u32, value: Value<'a>) -> Result<(), Fault> {
        match field {
            1 => message(&mut self.metadata, "metadata", value),
            2 => push_message(&mut self.endpoints, "endpoints", value),
            3 => push_message(&mut self.ports, "ports", value),
            4 => text(&mut self.address_type, "addressType", value),
            _ => Ok(()),
        }
    }
}

impl<'a> Message<'a> for Endpoint<'a> {
    fn field(&mut self, field: u32, value: Value<'a>) -> Result<(), Fault> {
        match field {
            1 => push_text(&mut self.addresses, "addresses", value),
            2 => message(&mut self.conditions, "conditions", value),
            6 => text(&mut self.node_name, "nodeName", value),
            8 => message(&mut self.hints, "hints", value),
            _ => Ok(()),
        }
    }
}

impl<'a> Message<'a> for Conditions {
    fn field(&mut self, field: u32, value: Value<'a>) -> Result<(), Fault> {
        match field {
            1 => flag(&mut self.ready, "ready", value),
            2 => flag(&mut self.serving, "serving", value),
            3 => flag(&mut self.terminating, "terminating", value),
            _ => Ok(()),
        }
    }
}

impl<'a> Message<'a> for Hints<'a> {
    fn field(&mut self, field: u32, value: Value<'a>) -> Result<(), Fault> {
        match field {
            1 => push_message(&mut self.for_zones, "forZones", value),
            2 => push_message(&mut self.for_nodes, "forNodes", value),
            _ => Ok(()),
        }
    }
}

impl<'a> Message<'a> for Hint<'a> {
    fn field(&mut self, field: u32, value: Value<'a>) -> Result<(), Fault> {
        match field {
            1 => text(&mut self.name, "name", value),
            _ => Ok(()),
        }
    }
}

impl<'a> Message<'a> for EndpointPort<'a> {
    fn field(&mut self, field: u32, value: Value<'a>) -> Result<(), Fault> {
        match field {
            1 => text(&mut self.name, "name", value),
            2 => text(&mut self.protocol, "protocol", value),
            3 => number(&mut self.port, "port", value),
            _ => Ok(()),
        }
    }
}
