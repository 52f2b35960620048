//! eBPF instructions, with labels for what jumps lead to.

/// A register: 0 holds results, 1 to 5 arguments (lost by calls), 6 to 9 are kept, 10 is the end of the stack.
pub(super) type Register = u8;

/// The end of the stack.
pub(super) const FRAME: Register = 10;

/// A place that jumps lead to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Label(usize);

/// What a value is combined with.
#[derive(Debug, Clone, Copy)]
pub(super) enum With {
    Register(Register),
    /// Extended by its sign.
    Number(i32),
}

/// Arithmetic on whole registers, without sign.
#[derive(Debug, Clone, Copy)]
pub(super) enum Op {
    Add = 0x00,
    Sub = 0x10,
    Mul = 0x20,
    Div = 0x30,
    And = 0x50,
    Left = 0x60,
    Right = 0x70,
    Rest = 0x90,
    Xor = 0xa0,
    Set = 0xb0,
}

/// Comparisons without sign.
#[derive(Debug, Clone, Copy)]
pub(super) enum Is {
    Equal = 0x10,
    Above = 0x20,
    AtLeast = 0x30,
    Other = 0x50,
    Below = 0xa0,
}

/// How much of memory.
#[derive(Debug, Clone, Copy)]
pub(super) enum Width {
    Byte = 0x10,
    Half = 0x08,
    Word = 0x00,
    Long = 0x18,
}

/// Functions of the kernel.
#[derive(Debug, Clone, Copy)]
pub(super) enum Helper {
    StoreBytes = 9,
    ReplaceChecksum = 11,
    CloneRedirect = 13,
    LoadBytes = 26,
    LoadFromHeader = 68,
}

#[derive(Debug, Clone, Copy, Default)]
struct Instruction {
    code: u8,
    to: Register,
    from: Register,
    offset: i16,
    number: i32,
}

impl Instruction {
    fn bits(self) -> u64 {
        let registers = if cfg!(target_endian = "little") {
            self.from << 4 | self.to
        } else {
            self.to << 4 | self.from
        };
        let (offset, number) = (self.offset.to_ne_bytes(), self.number.to_ne_bytes());
        u64::from_ne_bytes([
            self.code, registers, offset[0], offset[1], number[0], number[1], number[2], number[3],
        ])
    }
}

/// Instructions under construction.
#[derive(Debug, Default)]
pub(super) struct Assembler {
    code: Vec<Instruction>,
    places: Vec<Option<usize>>,
    jumps: Vec<(usize, Label)>,
}

impl Assembler {
    pub(super) fn label(&mut self) -> Label {
        self.places.push(None);
        Label(self.places.len() - 1)
    }

    /// The label leads to what follows.
    pub(super) fn here(&mut self, label: Label) {
        self.places[label.0] = Some(self.code.len());
    }

    fn push(&mut self, code: u8, to: Register, from: Register, offset: i16, number: i32) {
        self.code.push(Instruction {
            code,
            to,
            from,
            offset,
            number,
        });
    }

    pub(super) fn op(&mut self, op: Op, to: Register, with: With) {
        match with {
            With::Register(from) => self.push(op as u8 | 0x0f, to, from, 0, 0),
            With::Number(number) => self.push(op as u8 | 0x07, to, 0, 0, number),
        }
    }

    /// On the lower half, which becomes the whole.
    pub(super) fn op_on_half(&mut self, op: Op, to: Register, number: u32) {
        self.push(op as u8 | 0x04, to, 0, 0, number.cast_signed());
    }

    pub(super) fn set(&mut self, to: Register, number: i32) {
        self.op(Op::Set, to, With::Number(number));
    }

    pub(super) fn copy(&mut self, to: Register, from: Register) {
        self.op(Op::Set, to, With::Register(from));
    }

    fn two(&mut self, to: Register, from: Register, first: u32, second: u32) {
        self.push(0x18, to, from, 0, first.cast_signed());
        self.push(0, 0, 0, 0, second.cast_signed());
    }

    pub(super) fn set_long(&mut self, to: Register, number: u64) {
        self.two(to, 0, number as u32, (number >> 32) as u32);
    }

    /// Where a value of an array with one entry lies.
    pub(super) fn address(&mut self, to: Register, map: i32, offset: u32) {
        self.two(to, 2, map.cast_unsigned(), offset);
    }

    /// The lower two bytes, from network order.
    pub(super) fn swap_from_network(&mut self, to: Register) {
        self.push(0xdc, to, 0, 0, 16);
    }

    pub(super) fn load(&mut self, width: Width, to: Register, from: Register, offset: i16) {
        self.push(width as u8 | 0x61, to, from, offset, 0);
    }

    pub(super) fn store(&mut self, width: Width, to: Register, offset: i16, from: Register) {
        self.push(width as u8 | 0x63, to, from, offset, 0);
    }

    /// Adds to a counter that others count in too; the register then holds what it was.
    pub(super) fn count(&mut self, at: Register, by: Register) {
        self.push(0xdb, at, by, 0, 0x01);
    }

    /// Puts the register there if register 0 is what is there.
    pub(super) fn exchange(&mut self, at: Register, from: Register) {
        self.push(0xdb, at, from, 0, 0xf1);
    }

    pub(super) fn jump(&mut self, label: Label) {
        self.jumps.push((self.code.len(), label));
        self.push(0x05, 0, 0, 0, 0);
    }

    pub(super) fn jump_if(&mut self, left: Register, is: Is, with: With, label: Label) {
        self.jumps.push((self.code.len(), label));
        match with {
            With::Register(from) => self.push(is as u8 | 0x0d, left, from, 0, 0),
            With::Number(number) => self.push(is as u8 | 0x05, left, 0, 0, number),
        }
    }

    /// Compares the lower halves.
    pub(super) fn jump_if_half(&mut self, left: Register, is: Is, number: u32, label: Label) {
        self.jumps.push((self.code.len(), label));
        self.push(is as u8 | 0x06, left, 0, 0, number.cast_signed());
    }

    pub(super) fn call(&mut self, helper: Helper) {
        self.push(0x85, 0, 0, 0, helper as i32);
    }

    pub(super) fn exit(&mut self) {
        self.push(0x95, 0, 0, 0, 0);
    }

    /// As the kernel reads them. `None`: a jump is too long, or leads nowhere.
    pub(super) fn finish(mut self) -> Option<Vec<u64>> {
        for (at, label) in self.jumps {
            let to = i64::try_from(self.places[label.0]?).ok()?;
            let from = i64::try_from(at).ok()? + 1;
            self.code[at].offset = i16::try_from(to - from).ok()?;
        }
        Some(self.code.into_iter().map(Instruction::bits).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jumps_lead_both_ways_and_one_without_an_end_is_no_program() {
        let mut code = Assembler::default();
        let (back, on) = (code.label(), code.label());
        code.here(back);
        code.set(0, -1);
        code.jump_if(0, Is::Equal, With::Number(7), on);
        code.jump(back);
        code.here(on);
        code.exit();
        let offsets: Vec<i16> = code
            .finish()
            .unwrap()
            .iter()
            .map(|word| i16::from_ne_bytes([word.to_ne_bytes()[2], word.to_ne_bytes()[3]]))
            .collect();
        assert_eq!(offsets, [0, 1, -3, 0]);
        let mut code = Assembler::default();
        let nowhere = code.label();
        code.jump(nowhere);
        assert_eq!(code.finish(), None);
    }
}
