//! Web application archives: true zip files with stored entries, so that any zip tool opens them.

use super::content::{Seed, source_text};

struct Entry {
    name: String,
    crc: u32,
    size: u32,
    offset: u32,
}

/// A `.war` of about `size` bytes (below 4 GiB): a manifest, a descriptor, pages, and libraries that do not compress.
pub fn web_archive(name: &str, seed: &mut Seed, size: usize) -> Vec<u8> {
    let mut zip = Zip { bytes: Vec::with_capacity(size + 64 * 1024), entries: Vec::new() };
    let manifest =
        format!("Manifest-Version: 1.0\nImplementation-Title: {name}\nImplementation-Version: 1.{}\n", seed.below(90));
    zip.add("META-INF/MANIFEST.MF", manifest.as_bytes());
    zip.add("WEB-INF/web.xml", format!("<web-app><display-name>{name}</display-name></web-app>\n").as_bytes());
    for page in 0..12 {
        zip.add(&format!("pages/page-{page}.jsp"), source_text(seed, "jsp", 120).as_bytes());
    }
    let mut library = 0;
    while zip.bytes.len() < size {
        let length = (size - zip.bytes.len()).min(256 * 1024 + seed.below(512 * 1024) as usize);
        zip.add(&format!("WEB-INF/lib/library-{library}.jar"), &seed.bytes(length));
        library += 1;
    }
    zip.finish()
}

struct Zip {
    bytes: Vec<u8>,
    entries: Vec<Entry>,
}

impl Zip {
    fn add(&mut self, name: &str, content: &[u8]) {
        let offset = self.bytes.len() as u32;
        let entry = Entry { name: name.to_owned(), crc: crc32(content), size: content.len() as u32, offset };
        self.bytes.extend_from_slice(&0x0403_4b50_u32.to_le_bytes());
        self.describe(&entry);
        self.bytes.extend_from_slice(entry.name.as_bytes());
        self.bytes.extend_from_slice(content);
        self.entries.push(entry);
    }

    /// The fields that local header and directory share, from "version needed" to the extra field's length.
    fn describe(&mut self, entry: &Entry) {
        // Version 1.0, no flags, stored, 1980-01-01 00:00: fixed, so that equal seeds give equal archives.
        for field in [10_u16, 0, 0, 0, 0x21] {
            self.bytes.extend_from_slice(&field.to_le_bytes());
        }
        for field in [entry.crc, entry.size, entry.size] {
            self.bytes.extend_from_slice(&field.to_le_bytes());
        }
        for field in [entry.name.len() as u16, 0] {
            self.bytes.extend_from_slice(&field.to_le_bytes());
        }
    }

    fn finish(mut self) -> Vec<u8> {
        let directory = self.bytes.len() as u32;
        let entries = std::mem::take(&mut self.entries);
        for entry in &entries {
            self.bytes.extend_from_slice(&0x0201_4b50_u32.to_le_bytes());
            self.bytes.extend_from_slice(&10_u16.to_le_bytes());
            self.describe(entry);
            self.bytes.extend_from_slice(&[0; 10]);
            self.bytes.extend_from_slice(&entry.offset.to_le_bytes());
            self.bytes.extend_from_slice(entry.name.as_bytes());
        }
        let length = self.bytes.len() as u32 - directory;
        self.bytes.extend_from_slice(&0x0605_4b50_u32.to_le_bytes());
        for field in [0, 0, entries.len() as u16, entries.len() as u16] {
            self.bytes.extend_from_slice(&field.to_le_bytes());
        }
        self.bytes.extend_from_slice(&length.to_le_bytes());
        self.bytes.extend_from_slice(&directory.to_le_bytes());
        self.bytes.extend_from_slice(&0_u16.to_le_bytes());
        self.bytes
    }
}

const CRC_TABLE: [u32; 256] = crc_table();

const fn crc_table() -> [u32; 256] {
    let mut table = [0; 256];
    let mut index = 0;
    while index < 256 {
        let mut value = index as u32;
        let mut bit = 0;
        while bit < 8 {
            value = if value & 1 == 1 { (value >> 1) ^ 0xedb8_8320 } else { value >> 1 };
            bit += 1;
        }
        table[index] = value;
        index += 1;
    }
    table
}

fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc: u32, byte| (crc >> 8) ^ CRC_TABLE[((crc ^ u32::from(*byte)) & 0xff) as usize])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_the_one_of_zip() {
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
    }

    #[test]
    fn every_entry_lies_where_the_directory_says() {
        let war = web_archive("shop", &mut Seed::new(1), 300_000);
        assert!((300_000..320_000).contains(&war.len()), "{}", war.len());
        let field = |at: usize| u32::from_le_bytes(war[at..at + 4].try_into().unwrap()) as usize;
        let end = war.len() - 22;
        let (mut at, directory_end) = (field(end + 16), field(end + 16) + field(end + 12));
        assert_eq!(directory_end, end);
        let mut entries = 0;
        while at < end {
            let name_length = usize::from(u16::from_le_bytes(war[at + 28..at + 30].try_into().unwrap()));
            let (crc, size, local) = (field(at + 16), field(at + 24), field(at + 42));
            let content = local + 30 + name_length;
            assert_eq!(war[local + 30..content], war[at + 46..at + 46 + name_length]);
            assert_eq!(crc32(&war[content..content + size]) as usize, crc);
            at += 46 + name_length;
            entries += 1;
        }
        assert!(entries >= 15, "{entries}");
    }
}
