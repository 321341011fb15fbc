//! A file's columns are found by name, whatever their order and case; missing ones are NULL, narrower ones widened.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, Float32Array, Int32Array, Int64Array, RecordBatch, StringArray, TimestampNanosecondArray,
};
use arrow::datatypes::Schema;
use athena_core::arrow;
use table_core::{Column, Format, HiveType, TableDef};

use crate::lake::{Lake, one, parquet_file, texts};

fn file(columns: Vec<(&str, ArrayRef)>) -> Vec<u8> {
    let columns = columns.into_iter().map(|(name, column)| (name, column, true));
    parquet_file(&[RecordBatch::try_from_iter_with_nullable(columns).unwrap()], 100)
}

#[tokio::test]
async fn files_of_several_schemas_read_as_one_table() {
    let lake = Lake::empty().await;
    let table = TableDef::new("lake", "mixed", "mixed", Format::Parquet).with_columns([
        Column::new("id", HiveType::BigInt),
        Column::new("dest", HiveType::String),
        Column::new("delay", HiveType::Double),
        Column::new("at", HiveType::Timestamp),
    ]);
    lake.create(table).await;
    let ints = |values: &[i32]| -> ArrayRef { Arc::new(Int32Array::from(values.to_vec())) };
    let texts_of = |values: &[&str]| -> ArrayRef { Arc::new(StringArray::from(values.to_vec())) };
    let wide: ArrayRef = Arc::new(Int64Array::from(vec![3]));
    let real: ArrayRef = Arc::new(Float32Array::from(vec![1.5, 2.5]));
    let nanos: ArrayRef = Arc::new(TimestampNanosecondArray::from(vec![1_500_000_000]));
    lake.put(
        "mixed/a.parquet",
        file(vec![("id", ints(&[1, 2])), ("dest", texts_of(&["JFK", "LAX"])), ("delay", real)]),
    )
    .await;
    lake.put(
        "mixed/b.parquet",
        file(vec![("DEST", texts_of(&["SFO"])), ("ID", wide), ("extra", ints(&[9])), ("At", nanos)]),
    )
    .await;
    lake.put("mixed/_SUCCESS", "x").await;
    lake.put("mixed/.hidden/c.parquet", "not parquet").await;
    lake.put("mixed/_temporary/d.parquet", "not parquet").await;
    lake.put("mixed/empty.parquet", "").await;
    lake.put("mixed2/e.parquet", "not parquet").await;
    let athena = lake.athena();
    let rows = texts(&athena, "select id, dest, delay, at from mixed order by id").await.0;
    let expected = [
        [Some("1"), Some("JFK"), Some("1.5"), None],
        [Some("2"), Some("LAX"), Some("2.5"), None],
        [Some("3"), Some("SFO"), None, Some("1970-01-01 00:00:01.500")],
    ];
    assert_eq!(rows, expected.map(|row| row.map(|text| text.map(str::to_owned)).to_vec()));
    assert_eq!(one(&athena, "select id from mixed where dest = 'SFO'").await.as_deref(), Some("3"));
    assert_eq!(one(&athena, "select count(*) from mixed where delay is null").await.as_deref(), Some("1"));
    assert_eq!(one(&athena, "select sum(id) from mixed where id > 2").await.as_deref(), Some("3"));
}

#[tokio::test]
async fn nested_fields_are_found_whatever_their_case() {
    let lake = Lake::empty().await;
    let nested = "struct<id:bigint,tags:array<struct<key:string,n:int>>,m:map<string,struct<x:int>>>";
    let column = Column::new("s", nested.parse().unwrap());
    lake.create(TableDef::new("lake", "nested", "nested", Format::Parquet).with_columns([column])).await;
    for (name, of_file) in [
        ("a", nested),
        ("b", "struct<TAGS:array<struct<N:int,Key:string>>,M:map<string,struct<X:int>>,Id:int>"),
        ("c", "struct<extra:int,ID:bigint,Tags:array<struct<key:string,n:int>>,m:map<string,struct<x:int>>>"),
    ] {
        let schema = Schema::new(vec![Column::new("S", of_file.parse().unwrap()).to_field()]);
        let line = r#"{"s": {"id": 1, "tags": [{"key": "k", "n": 2}], "m": {"Y": {"x": 3}}}}"#;
        let mut rows = table_core::json::JsonReader::new(line.as_bytes(), "t", Arc::new(schema)).unwrap();
        lake.put(&format!("nested/{name}.parquet"), parquet_file(&[rows.next().unwrap().unwrap().batch], 100)).await;
    }
    let athena = lake.athena();
    let rows = texts(&athena, "select s from nested where s.id = 1").await.0;
    assert_eq!(rows, vec![vec![Some("{id=1, tags=[{key=k, n=2}], m={Y={x=3}}}".to_owned())]; 3]);
    let sql = "select s.tags[1]['key'], s.tags[1]['n'], s.m['Y']['x'] from nested where s.id is not null";
    let rows = texts(&athena, sql).await.0;
    assert_eq!(rows, vec![["k", "2", "3"].map(|text| Some(text.to_owned())).to_vec(); 3]);
}

#[tokio::test]
async fn a_damaged_file_and_a_foreign_table_are_named() {
    let lake = Lake::empty().await;
    let column = [Column::new("id", HiveType::BigInt)];
    for name in ["damaged", "delta"] {
        lake.create(TableDef::new("lake", name, name, Format::Parquet).with_columns(column.clone())).await;
    }
    lake.put("damaged/a.parquet", vec![7; 300]).await;
    lake.put("delta/_delta_log/0.json", "{}").await;
    lake.put("delta/a.parquet", file(vec![("id", Arc::new(Int64Array::from(vec![1])))])).await;
    let athena = lake.athena();
    let error = athena.query(crate::lake::in_lake("select * from damaged")).await.unwrap_err();
    assert!(error.message().contains("damaged/a.parquet"), "{error:?}");
    assert_eq!(error.kind(), athena_core::ErrorKind::Corrupt);
    let error = athena.query(crate::lake::in_lake("select * from delta")).await.unwrap_err();
    assert!(format!("{error:?}").contains("Delta Lake"), "{error:?}");
}
