//! The order of holders by which gives way first, and of groups by how much they hold.

use super::{HolderId, Resource};
use crate::time::Time;

/// Binary digits of a sum of bytes that count when sums are compared: a few bytes more do not decide.
const SIGNIFICANT_BITS: u32 = 3;

/// A holder's rank within its group: the lowest gives way first. The fields decide in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Rank {
    /// KiB delivered in the last 30 s, for each GiB held.
    use_of_memory: u64,
    /// KiB delivered since it began, as a number of binary digits.
    delivered: u32,
    is_live: bool,
    active: Time,
    holder: HolderId,
}

impl Rank {
    /// Not above any other.
    pub(super) const FIRST: Self =
        Self { use_of_memory: 0, delivered: 0, is_live: false, active: Time::ZERO, holder: HolderId(0) };

    pub(super) fn new(
        recent: u64,
        memory: u64,
        delivered: u64,
        is_stranded: bool,
        active: Time,
        holder: HolderId,
    ) -> Self {
        let use_of_memory = (u128::from(whole_kib(recent)) << 30) / u128::from(memory.max(1));
        Self {
            use_of_memory: u64::try_from(use_of_memory).unwrap_or(u64::MAX),
            delivered: u64::BITS - whole_kib(delivered).leading_zeros(),
            is_live: !is_stranded,
            active,
            holder,
        }
    }

    pub(super) fn holder(&self) -> HolderId {
        self.holder
    }
}

/// Less than a KiB counts as nothing: a session that lets a byte through now and then is not in use.
pub(super) fn whole_kib(bytes: u64) -> u64 {
    bytes / 1024
}

/// A group's sum as it is compared with others': numbers of things exactly, bytes to [`SIGNIFICANT_BITS`].
pub(super) fn size(resource: Resource, sum: u64) -> u64 {
    if resource != Resource::Memory {
        return sum;
    }
    let dropped = (u64::BITS - sum.leading_zeros()).saturating_sub(SIGNIFICANT_BITS);
    sum >> dropped << dropped
}
