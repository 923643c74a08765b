//! Where a record says that it comes from: an output by its one header, a letter by its several.

use crate::Record;

/// Where an event is: a partition of the input, and the offset there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// The partition.
    pub partition: i32,
    /// The offset.
    pub offset: i64,
}

/// What an event became: its outputs by their number, or a letter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Product {
    /// The output with this number.
    Output(u32),
    /// A dead letter.
    Letter,
}

/// Which event a record was made of, and as what.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Origin {
    /// The event's place.
    pub place: Place,
    /// What it became.
    pub product: Product,
}

/// What made an output.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Maker {
    /// The route.
    pub route: String,
    /// The number of the generation.
    pub generation: u64,
    /// The plugins and their versions, `PLUGIN@SHA8[,PLUGIN@SHA8]`; empty where there are none.
    pub versions: String,
}

/// Parses `TOPIC/PARTITION/OFFSET/INDEX ROUTE@GENERATION[ PLUGIN@SHA8[,PLUGIN@SHA8]][ hops=N]`.
fn parse(header: &str) -> Option<(Origin, Maker)> {
    let mut words = header.split(' ');
    let mut parts = words.next()?.rsplitn(4, '/');
    let (index, offset, partition) = (parts.next()?, parts.next()?, parts.next()?);
    parts.next()?;
    let place = Place { partition: partition.parse().ok()?, offset: offset.parse().ok()? };
    let (route, generation) = words.next()?.rsplit_once('@')?;
    let versions = words.next().filter(|word| word.contains('@')).unwrap_or_default();
    let maker = Maker { route: route.to_owned(), generation: generation.parse().ok()?, versions: versions.to_owned() };
    Some((Origin { place, product: Product::Output(index.parse().ok()?) }, maker))
}

impl Maker {
    /// What made an output, as its header says.
    ///
    /// # Panics
    /// When it has no such header.
    pub fn of(record: &Record) -> Self {
        read(record).1
    }

    /// The first digits of the first plugin's version, if there is one.
    pub fn version(&self) -> Option<u32> {
        let (_, digits) = self.versions.split(',').next()?.split_once('@')?;
        u32::from_str_radix(digits, 16).ok()
    }
}

fn read(record: &Record) -> (Origin, Maker) {
    let header = record.header_text("midplane-origin").unwrap_or_else(|| panic!("no origin: {record:?}"));
    parse(header).unwrap_or_else(|| panic!("not an origin: `{header}`"))
}

impl Origin {
    /// Reads the origin of an output or of a letter.
    ///
    /// # Panics
    /// When it is neither.
    pub fn of(record: &Record) -> Self {
        let number = |name: &str| record.header_text(name).map(|text| text.parse::<i64>().expect("a number"));
        let Some(offset) = number("midplane-error-offset") else { return read(record).0 };
        let partition = number("midplane-error-partition").expect("a letter names its partition");
        let partition = i32::try_from(partition).expect("a partition");
        Self { place: Place { partition, offset }, product: Product::Letter }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn output(header: &str) -> Record {
        Record::new("k", "v").header("midplane-origin", header)
    }

    fn at(partition: i32, offset: i64, product: Product) -> Origin {
        Origin { place: Place { partition, offset }, product }
    }

    #[test]
    fn an_output_names_its_event_and_what_made_it() {
        let record = output("a.b/3/41/2 r@7 p@000000ff,q@00000001 hops=2");
        assert_eq!(Origin::of(&record), at(3, 41, Product::Output(2)));
        let maker = Maker::of(&record);
        assert_eq!((maker.route.as_str(), maker.generation), ("r", 7));
        assert_eq!((maker.versions.as_str(), maker.version()), ("p@000000ff,q@00000001", Some(255)));
    }

    #[test]
    fn a_route_without_plugins_has_no_versions() {
        for header in ["b/3/41/2 r@7", "b/3/41/2 r@7 hops=2"] {
            let maker = Maker::of(&output(header));
            assert_eq!((maker.versions.as_str(), maker.version()), ("", None), "{header}");
        }
    }

    #[test]
    fn a_letter_names_its_event() {
        // The event may have been an output of another router: what the letter says counts.
        let letter = output("b/0/0/0 r@1").header("midplane-error-partition", "3");
        let letter = letter.header("midplane-error-offset", "41");
        assert_eq!(Origin::of(&letter), at(3, 41, Product::Letter));
    }

    #[test]
    #[should_panic(expected = "not an origin")]
    fn what_is_no_origin_is_refused() {
        Origin::of(&output("3/41/2 r@7"));
    }
}
