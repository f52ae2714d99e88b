//! Flowtables: connections in them pass by the rules, from the interface they come in by to the one they leave by.

use super::constants::{flowtable, operation};
use super::transaction::Transaction;
use crate::attr::Malformed;
use crate::message::{Message, flags};
use crate::netfilter;
use crate::writer::{TooLong, Writer};

/// Devices in one message; the kernel takes 256.
const DEVICES_PER_MESSAGE: usize = 128;

/// A flowtable, as the kernel has it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Flowtable {
    /// Its table.
    pub table: String,
    /// Its name.
    pub name: String,
    /// Flags, such as that for work done by hardware.
    pub flags: u32,
    /// The interfaces whose packets look for a connection in it.
    pub devices: Vec<String>,
}

impl Flowtable {
    pub(super) fn read(message: &Message<'_>) -> Result<Self, Malformed> {
        let mut read = Self::default();
        for attribute in message.attributes(netfilter::HEADER_LEN)? {
            let attribute = attribute?;
            match attribute.kind {
                flowtable::TABLE => read.table = attribute.text().into_owned(),
                flowtable::NAME => read.name = attribute.text().into_owned(),
                flowtable::FLAGS => read.flags = attribute.u32_be()?,
                flowtable::HOOK => {
                    for attribute in attribute.nested() {
                        let attribute = attribute?;
                        if attribute.kind != flowtable::HOOK_DEVICES {
                            continue;
                        }
                        for device in attribute.nested() {
                            read.devices.push(device?.text().into_owned());
                        }
                    }
                }
                _ => {}
            }
        }
        Ok(read)
    }
}

impl Transaction {
    /// Makes a software flowtable for no device yet; nothing happens if it is there.
    pub fn add_flowtable(&mut self, name: &str) -> Result<(), TooLong> {
        self.change_flowtable(operation::NEW_FLOWTABLE, flags::CREATE, name, &[])
    }

    /// Adds devices to a flowtable; those that it has stay.
    pub fn add_devices(&mut self, name: &str, devices: &[String]) -> Result<(), TooLong> {
        devices.chunks(DEVICES_PER_MESSAGE).try_for_each(|devices| {
            self.change_flowtable(operation::NEW_FLOWTABLE, flags::CREATE, name, devices)
        })
    }

    /// Takes devices out of a flowtable, which must have them.
    pub fn remove_devices(&mut self, name: &str, devices: &[String]) -> Result<(), TooLong> {
        devices.chunks(DEVICES_PER_MESSAGE).try_for_each(|devices| {
            self.change_flowtable(operation::DELETE_FLOWTABLE, 0, name, devices)
        })
    }

    /// Deletes a flowtable that no rule refers to. Its connections continue through the rules.
    pub fn delete_flowtable(&mut self, name: &str) -> Result<(), TooLong> {
        self.add(operation::DELETE_FLOWTABLE, 0, |writer, table| {
            writer.text(flowtable::TABLE, table);
            writer.text(flowtable::NAME, name);
        })
    }

    fn change_flowtable(
        &mut self,
        operation: u8,
        flags: u16,
        name: &str,
        devices: &[String],
    ) -> Result<(), TooLong> {
        self.add(operation, flags, |writer, table| {
            writer.text(flowtable::TABLE, table);
            writer.text(flowtable::NAME, name);
            writer.nest(flowtable::HOOK, |writer| write_hook(writer, devices));
        })
    }
}

fn write_hook(writer: &mut Writer, devices: &[String]) {
    writer.u32_be(flowtable::HOOK_NUMBER, flowtable::INGRESS);
    writer.u32_be(flowtable::HOOK_PRIORITY, 0);
    if !devices.is_empty() {
        writer.nest(flowtable::HOOK_DEVICES, |writer| {
            for device in devices {
                writer.text(flowtable::DEVICE_NAME, device);
            }
        });
    }
}
