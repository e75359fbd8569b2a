//! Prints a sentence about the year of each station.

fn main() {
    println!("({})", report::columns());
    for station in weather::stations() {
        match station.year(48) {
            Some(year) => println!("{}", report::year(&station.name, &year)),
            None => println!("{}: nothing is known", station.name),
        }
    }
}
