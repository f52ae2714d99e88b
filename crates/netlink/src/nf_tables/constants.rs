//! Numbers of `linux/netfilter/nf_tables.h` and of libnftnl's user data.

/// Operations, `NFT_MSG_*`.
pub(super) mod operation {
    pub(in super::super) const NEW_TABLE: u8 = 0;
    pub(in super::super) const GET_TABLE: u8 = 1;
    pub(in super::super) const DELETE_TABLE: u8 = 2;
    pub(in super::super) const NEW_CHAIN: u8 = 3;
    pub(in super::super) const GET_CHAIN: u8 = 4;
    pub(in super::super) const DELETE_CHAIN: u8 = 5;
    pub(in super::super) const NEW_RULE: u8 = 6;
    pub(in super::super) const GET_RULE: u8 = 7;
    pub(in super::super) const DELETE_RULE: u8 = 8;
    pub(in super::super) const NEW_SET: u8 = 9;
    pub(in super::super) const GET_SET: u8 = 10;
    pub(in super::super) const DELETE_SET: u8 = 11;
    pub(in super::super) const NEW_ELEMENT: u8 = 12;
    pub(in super::super) const GET_ELEMENT: u8 = 13;
    pub(in super::super) const DELETE_ELEMENT: u8 = 14;
    pub(in super::super) const NEW_GENERATION: u8 = 15;
    pub(in super::super) const GET_GENERATION: u8 = 16;
    pub(in super::super) const TRACE: u8 = 17;
    pub(in super::super) const NEW_FLOWTABLE: u8 = 22;
    pub(in super::super) const GET_FLOWTABLE: u8 = 23;
    pub(in super::super) const DELETE_FLOWTABLE: u8 = 24;
}

/// `NFTA_GEN_*`.
pub(super) mod generation {
    pub(in super::super) const ID: u16 = 1;
}

/// `NFTA_TABLE_*`.
pub(super) mod table {
    pub(in super::super) const NAME: u16 = 1;
    pub(in super::super) const FLAGS: u16 = 2;
    pub(in super::super) const USE: u16 = 3;
    pub(in super::super) const HANDLE: u16 = 4;
    pub(in super::super) const USER_DATA: u16 = 6;
    /// `NFT_TABLE_F_OWNER`, since Linux 5.12.
    pub(in super::super) const FLAG_OWNER: u32 = 2;
}

/// `NFTA_TRACE_*` and `NFT_TRACETYPE_*`.
pub(super) mod trace {
    pub(in super::super) const TABLE: u16 = 1;
    pub(in super::super) const CHAIN: u16 = 2;
    pub(in super::super) const RULE_HANDLE: u16 = 3;
    pub(in super::super) const TYPE: u16 = 4;
    pub(in super::super) const VERDICT: u16 = 5;
    pub(in super::super) const ID: u16 = 6;
    pub(in super::super) const NETWORK_HEADER: u16 = 8;
    pub(in super::super) const TRANSPORT_HEADER: u16 = 9;
    pub(in super::super) const INPUT_INTERFACE: u16 = 10;
    pub(in super::super) const OUTPUT_INTERFACE: u16 = 12;
    pub(in super::super) const MARK: u16 = 14;
    pub(in super::super) const PROTOCOL_FAMILY: u16 = 15;
    pub(in super::super) const POLICY: u16 = 16;

    pub(in super::super) const TYPE_POLICY: u32 = 1;
    pub(in super::super) const TYPE_RETURN: u32 = 2;
    pub(in super::super) const TYPE_RULE: u32 = 3;
}

/// `NFTA_CHAIN_*` and `NFTA_HOOK_*`.
pub(super) mod chain {
    pub(in super::super) const TABLE: u16 = 1;
    pub(in super::super) const NAME: u16 = 3;
    pub(in super::super) const HOOK: u16 = 4;
    pub(in super::super) const POLICY: u16 = 5;
    pub(in super::super) const TYPE: u16 = 7;
    pub(in super::super) const USER_DATA: u16 = 12;
    pub(in super::super) const HOOK_NUMBER: u16 = 1;
    pub(in super::super) const HOOK_PRIORITY: u16 = 2;
}

/// `NFTA_RULE_*`.
pub(super) mod rule {
    pub(in super::super) const TABLE: u16 = 1;
    pub(in super::super) const CHAIN: u16 = 2;
    pub(in super::super) const HANDLE: u16 = 3;
    pub(in super::super) const EXPRESSIONS: u16 = 4;
    pub(in super::super) const USER_DATA: u16 = 7;
}

/// `NFTA_SET_*`, `NFTA_SET_DESC_*` and `NFTA_SET_FIELD_*`.
pub(super) mod set {
    pub(in super::super) const TABLE: u16 = 1;
    pub(in super::super) const NAME: u16 = 2;
    pub(in super::super) const FLAGS: u16 = 3;
    pub(in super::super) const KEY_TYPE: u16 = 4;
    pub(in super::super) const KEY_LENGTH: u16 = 5;
    pub(in super::super) const DATA_TYPE: u16 = 6;
    pub(in super::super) const DATA_LENGTH: u16 = 7;
    pub(in super::super) const DESCRIPTION: u16 = 9;
    pub(in super::super) const ID: u16 = 10;
    pub(in super::super) const USER_DATA: u16 = 13;
    pub(in super::super) const EXPRESSION: u16 = 17;
    /// Since Linux 6.17.
    pub(in super::super) const COUNT: u16 = 20;
    pub(in super::super) const DESCRIPTION_SIZE: u16 = 1;
    pub(in super::super) const DESCRIPTION_CONCATENATION: u16 = 2;
    pub(in super::super) const FIELD_LENGTH: u16 = 1;
}

/// `NFTA_FLOWTABLE_*`, `NFTA_FLOWTABLE_HOOK_*` and `NFTA_DEVICE_*`.
pub(super) mod flowtable {
    pub(in super::super) const TABLE: u16 = 1;
    pub(in super::super) const NAME: u16 = 2;
    pub(in super::super) const HOOK: u16 = 3;
    pub(in super::super) const FLAGS: u16 = 7;
    pub(in super::super) const HOOK_NUMBER: u16 = 1;
    pub(in super::super) const HOOK_PRIORITY: u16 = 2;
    pub(in super::super) const HOOK_DEVICES: u16 = 3;
    pub(in super::super) const DEVICE_NAME: u16 = 1;
    /// `NF_NETDEV_INGRESS`.
    pub(in super::super) const INGRESS: u32 = 0;
}

/// `NFTA_SET_ELEM_LIST_*`.
pub(super) mod element_list {
    pub(in super::super) const TABLE: u16 = 1;
    pub(in super::super) const SET: u16 = 2;
    pub(in super::super) const ELEMENTS: u16 = 3;
}

/// `NFTA_SET_ELEM_*`.
pub(super) mod element {
    pub(in super::super) const KEY: u16 = 1;
    pub(in super::super) const DATA: u16 = 2;
    pub(in super::super) const FLAGS: u16 = 3;
    pub(in super::super) const TIMEOUT: u16 = 4;
    pub(in super::super) const EXPIRATION: u16 = 5;
    pub(in super::super) const USER_DATA: u16 = 6;
    pub(in super::super) const EXPRESSION: u16 = 7;
    pub(in super::super) const KEY_END: u16 = 10;
    /// `NFT_SET_ELEM_INTERVAL_END`.
    pub(in super::super) const FLAG_INTERVAL_END: u32 = 1;
}

/// `NFTA_DATA_*`, `NFTA_VERDICT_*` and verdict codes.
pub(super) mod data {
    pub(in super::super) const VALUE: u16 = 1;
    pub(in super::super) const VERDICT: u16 = 2;
    pub(in super::super) const VERDICT_CODE: u16 = 1;
    pub(in super::super) const VERDICT_CHAIN: u16 = 2;
    /// `NFT_DATA_VERDICT`, the data type of verdict maps.
    pub(in super::super) const TYPE_VERDICT: u32 = 0xffff_ff00;
}

/// `NFTA_LIST_ELEM`, `NFTA_EXPR_*`.
pub(super) mod expression {
    pub(in super::super) const LIST_ITEM: u16 = 1;
    pub(in super::super) const NAME: u16 = 1;
    pub(in super::super) const DATA: u16 = 2;
}

/// `NFTA_COUNTER_*`.
pub(super) mod counter {
    pub(in super::super) const BYTES: u16 = 1;
    pub(in super::super) const PACKETS: u16 = 2;
}
