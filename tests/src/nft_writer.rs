//! Changes nftables by raw messages, so that tests need no `nft` binary to plant a rule.
//!
//! IPv4 tables only, and no more than tests plant.

use crate::snapshot::netlink::{ACK, APPEND, Builder, CREATE, Socket};

/// Changes nftables by raw messages, since no `nft` need be there.
#[derive(Debug)]
pub struct Nft(Socket);

impl Nft {
    /// Opens the netlink socket.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn open() -> anyhow::Result<Self> {
        Ok(Self(Socket::netfilter()?))
    }

    /// One change in a transaction of its own. `kind` is an `NFT_MSG_*`, the family IPv4.
    fn change(&self, kind: u16, flags: u16, attributes: &Builder) -> anyhow::Result<()> {
        let batch = Builder::new().raw(&[0, 0, 0, 10]);
        let change = Builder::new().raw(&[2, 0, 0, 0]).raw(attributes.bytes());
        let mut datagram = batch.message(16, 0, 1);
        datagram.extend(change.message(10 << 8 | kind, flags | ACK, 2));
        datagram.extend(batch.message(17, 0, 3));
        self.0.send(&datagram)?;
        self.0.acknowledged()
    }

    /// An empty IPv4 table.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn add_table(&self, table: &str) -> anyhow::Result<()> {
        let flags = Builder::new()
            .text(1, table)
            .attribute(2, &0u32.to_be_bytes());
        self.change(0, CREATE, &flags)
    }

    /// A table with all that is in it.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn delete_table(&self, table: &str) -> anyhow::Result<()> {
        self.change(2, 0, &Builder::new().text(1, table))
    }

    /// A filter chain on outgoing packets that accepts what no rule decides.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn add_output_chain(&self, table: &str, chain: &str) -> anyhow::Result<()> {
        let hook = Builder::new()
            .attribute(1, &3u32.to_be_bytes())
            .attribute(2, &0u32.to_be_bytes());
        let chain = Builder::new()
            .text(1, table)
            .text(3, chain)
            .nested(4, hook)
            .text(7, "filter");
        self.change(3, CREATE, &chain)
    }

    /// A rule of one counter.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn add_counter(&self, table: &str, chain: &str) -> anyhow::Result<()> {
        let counter = Builder::new().text(1, "counter").nested(2, Builder::new());
        let rule = Builder::new()
            .text(1, table)
            .text(2, chain)
            .nested(4, Builder::new().nested(1, counter));
        self.change(6, CREATE | APPEND, &rule)
    }

    /// Deletes every rule of a chain.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn flush(&self, table: &str, chain: &str) -> anyhow::Result<()> {
        self.change(8, 0, &Builder::new().text(1, table).text(2, chain))
    }
}
