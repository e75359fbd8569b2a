//! Prints how each month begins, for each station.

fn main() {
    for station in weather::stations() {
        println!("{}\n{}", station.name, report::months(&station));
    }
}
