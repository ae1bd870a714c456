//! A valid policy to make mistakes in.

use lifeboat::policy::{self, PolicyErrors};

/// Valid, with something of everything that the local provider has.
pub const BASE: &str = r#"system = "shop"
timezone = "Europe/Paris"
objectives = { rpo = "1h", rto = "15m" }

[primary]
provider = "local"

[dr]
provider = "local"
path = "/mnt/dr/shop"
repository_password = "file:/etc/lifeboat/shop.password"

[[source]]
name = "files"
kind = "files"
paths = ["/srv/shop"]
exclude = ["**/tmp/**"]

[[source]]
name = "logs"
kind = "logs"
paths = ["/var/log/shop/*.log"]
beacon = { newest_entry = true }

[[source]]
name = "orders"
kind = "sqlite"
path = "/var/lib/shop/orders.db"
beacon = { sql = "select max(at) from orders" }

[[source]]
name = "accounts"
kind = "postgres"
dsn = "env:ACCOUNTS_DSN"

[schedule]
backup = "daily 00:30"
window = "00:00-02:00"
drill = "0 4 1 * *"

[retention]
online = "30d"
keep = { daily = 7, monthly = 12 }
archive = { which = "monthly", after = "30d", to = "directory", path = "/mnt/cold/shop" }

[[plan.drill.step]]
name = "app"
restore = "files"
to = "www/app"

[[plan.drill.step]]
name = "db"
restore = "orders"

[[plan.drill.step]]
name = "start"
script = "start.sh"
after = ["app", "db"]

[[plan.drill.check]]
sql = "select count(*) from orders"
on = "orders"
expect = "> 0"

[[plan.drill.check]]
http = "http://localhost:8080/"
status = 200

[[plan.drill.check]]
tcp = "localhost:5432"

[[plan.drill.check]]
file = "www/app/index.html"

[notify]
mail = { to = ["ops@shop.example"], smtp = "env:SMTP_URL" }
webhook = "env:ALERT_WEBHOOK"
"#;

/// The base with one place changed. The place must be there, once or its first time.
pub fn with(from: &str, to: &str) -> String {
    assert!(BASE.contains(from), "the base policy holds {from:?}");
    BASE.replacen(from, to, 1)
}

/// The mistakes of a text that must have some.
pub fn errors(text: &str) -> PolicyErrors {
    match policy::parse("shop.toml", text) {
        Ok(_) => panic!("this must be refused:\n{text}"),
        Err(errors) => errors,
    }
}

#[test]
fn the_base_is_valid() {
    assert!(policy::parse("shop.toml", BASE).is_ok_and(|policy| policy.system == "shop"));
}
