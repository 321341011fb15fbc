//! Types survive being written as text and being mapped to Arrow and back.

use proptest::prelude::*;
use table_core::HiveType;

fn hive_type() -> impl Strategy<Value = HiveType> {
    let leaf = prop_oneof![
        Just(HiveType::Boolean),
        Just(HiveType::TinyInt),
        Just(HiveType::SmallInt),
        Just(HiveType::Int),
        Just(HiveType::BigInt),
        Just(HiveType::Float),
        Just(HiveType::Double),
        Just(HiveType::String),
        Just(HiveType::Date),
        Just(HiveType::Timestamp),
        Just(HiveType::Binary),
        (1_u8..=38).prop_flat_map(|p| (0..=i8::try_from(p).unwrap()).prop_map(move |s| HiveType::Decimal(p, s))),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            inner.clone().prop_map(|item| HiveType::Array(Box::new(item))),
            inner.clone().prop_map(|value| HiveType::Map(Box::new(HiveType::String), Box::new(value))),
            prop::collection::vec(("[a-z`:<>, é]{1,6}", inner), 1..4).prop_map(HiveType::Struct),
        ]
    })
}

proptest! {
    #[test]
    fn text_and_back(hive_type in hive_type()) {
        prop_assert_eq!(hive_type.to_string().parse::<HiveType>().unwrap(), hive_type);
    }

    #[test]
    fn arrow_and_back(hive_type in hive_type()) {
        prop_assert_eq!(HiveType::from_arrow(&hive_type.to_arrow()).unwrap(), hive_type);
    }

    #[test]
    fn any_text_parses_without_panic(text in "[a-z<>(),:` 0-9]{0,40}") {
        let _ = text.parse::<HiveType>();
    }
}
