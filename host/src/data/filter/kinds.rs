//! What kinds of value an expression can have, as a set: the type system of filters.
//!
//! A set says what a single static type can't: that a key is bytes or null, that a part of the JSON is one of seven kinds.
//! An operation is refused when no kind that its operands can have fits it, so whatever is refused would always have failed.

use std::fmt;

/// A set of kinds of value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Kinds(u16);

const NAMES: [&str; 11] =
    ["null", "bool", "int", "uint", "double", "string", "bytes", "timestamp", "duration", "list", "map"];

impl Kinds {
    pub(super) const NULL: Self = Self(1);
    pub(super) const BOOL: Self = Self(1 << 1);
    pub(super) const INT: Self = Self(1 << 2);
    pub(super) const UINT: Self = Self(1 << 3);
    pub(super) const DOUBLE: Self = Self(1 << 4);
    pub(super) const STRING: Self = Self(1 << 5);
    pub(super) const BYTES: Self = Self(1 << 6);
    pub(super) const TIMESTAMP: Self = Self(1 << 7);
    pub(super) const DURATION: Self = Self(1 << 8);
    pub(super) const LIST: Self = Self(1 << 9);
    pub(super) const MAP: Self = Self(1 << 10);
    pub(super) const NONE: Self = Self(0);
    pub(super) const ANY: Self = Self((1 << NAMES.len()) - 1);
    /// The numbers, which compare with one another.
    pub(super) const NUMBER: Self = Self::INT.or(Self::UINT).or(Self::DOUBLE);
    /// What the key of a map can be.
    pub(super) const KEY: Self = Self::STRING.or(Self::INT).or(Self::UINT).or(Self::BOOL);
    /// What a part of a JSON text can be.
    pub(super) const JSON: Self =
        Self::NULL.or(Self::BOOL).or(Self::INT).or(Self::DOUBLE).or(Self::STRING).or(Self::LIST).or(Self::MAP);

    pub(super) const fn or(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    pub(super) const fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    pub(super) const fn meets(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    pub(super) const fn is_one(self) -> bool {
        self.0.is_power_of_two()
    }

    pub(super) const fn is_none(self) -> bool {
        self.0 == 0
    }
}

impl fmt::Display for Kinds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self == Self::JSON {
            return f.write_str("a JSON value");
        }
        if *self == Self::ANY {
            return f.write_str("any value");
        }
        let names: Vec<_> = NAMES.iter().enumerate().filter(|(bit, _)| self.0 & (1 << bit) != 0).collect();
        for (position, (_, name)) in names.iter().enumerate() {
            let separator = match position {
                0 => "",
                _ if position + 1 == names.len() => " or ",
                _ => ", ",
            };
            write!(f, "{separator}{name}")?;
        }
        Ok(())
    }
}

/// The kinds of an expression, and, where it is a list or map, of what is in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Type {
    pub(super) kinds: Kinds,
    pub(super) elements: Kinds,
}

impl Type {
    pub(super) const ANY: Self = Self { kinds: Kinds::ANY, elements: Kinds::ANY };
    pub(super) const JSON: Self = Self { kinds: Kinds::JSON, elements: Kinds::JSON };

    /// Of these kinds; what is in them, if anything, can be anything.
    pub(super) const fn of(kinds: Kinds) -> Self {
        Self { kinds, elements: Kinds::ANY }
    }

    /// The type of an element of a list, or of a value of a map.
    pub(super) const fn element(self) -> Self {
        Self { kinds: self.elements, elements: if self.elements.0 == Kinds::JSON.0 { Kinds::JSON } else { Kinds::ANY } }
    }

    /// Either of the two.
    pub(super) const fn or(self, other: Self) -> Self {
        Self { kinds: self.kinds.or(other.kinds), elements: self.elements.or(other.elements) }
    }
}

/// The operators that take two values and give one of a kind that depends on theirs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Arithmetic {
    Add,
    Subtract,
    Multiply,
    Divide,
    Modulo,
}

impl Arithmetic {
    pub(super) fn symbol(self) -> &'static str {
        match self {
            Self::Add => "+",
            Self::Subtract => "-",
            Self::Multiply => "*",
            Self::Divide => "/",
            Self::Modulo => "%",
        }
    }

    /// What can come of operands of these kinds; nothing where no pair of them fits.
    pub(super) fn result(self, left: Kinds, right: Kinds) -> Kinds {
        const T: Kinds = Kinds::TIMESTAMP;
        const D: Kinds = Kinds::DURATION;
        let same: &[Kinds] = match self {
            Self::Add => &[Kinds::INT, Kinds::UINT, Kinds::DOUBLE, Kinds::STRING, Kinds::BYTES, Kinds::LIST, D],
            Self::Subtract => &[Kinds::INT, Kinds::UINT, Kinds::DOUBLE, D],
            Self::Multiply | Self::Divide => &[Kinds::INT, Kinds::UINT, Kinds::DOUBLE],
            Self::Modulo => &[Kinds::INT, Kinds::UINT],
        };
        let mixed: &[(Kinds, Kinds, Kinds)] = match self {
            Self::Add => &[(T, D, T), (D, T, T)],
            Self::Subtract => &[(T, D, T), (T, T, D)],
            Self::Multiply | Self::Divide | Self::Modulo => &[],
        };
        let same = same.iter().map(|&kind| (kind, kind, kind));
        same.chain(mixed.iter().copied())
            .filter(|(first, second, _)| left.meets(*first) && right.meets(*second))
            .fold(Kinds::NONE, |results, (_, _, result)| results.or(result))
    }
}

/// Whether values of these kinds can be equal.
pub(super) fn can_equal(left: Kinds, right: Kinds) -> bool {
    left.meets(right) || left.meets(Kinds::NUMBER) && right.meets(Kinds::NUMBER)
}

/// Whether values of these kinds have an order.
pub(super) fn can_compare(left: Kinds, right: Kinds) -> bool {
    const ORDERED: Kinds = Kinds::BOOL.or(Kinds::STRING).or(Kinds::BYTES).or(Kinds::TIMESTAMP).or(Kinds::DURATION);
    left.and(right).meets(ORDERED) || left.meets(Kinds::NUMBER) && right.meets(Kinds::NUMBER)
}
