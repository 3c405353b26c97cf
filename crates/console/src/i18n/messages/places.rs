//! Faults of calibration, of positions and coordinate systems, and of the grid.

pub(super) const CHINESE: &[(&str, &str)] = &[
    (
        "use the coordinate system given by the calibration's crs",
        "请用标定 crs 指定的坐标系",
    ),
    (
        "k1 = {k1}, k2 = {k2} is not invertible: two points of the scene would share one image point",
        "k1 = {k1}、k2 = {k2} 不可逆：场景中两点会落在同一像点",
    ),
    (
        "with k2 = 0, use a k1 above -0.14; fisheye lenses cannot be calibrated",
        "k2 = 0 时 k1 应大于 -0.14；鱼眼镜头不能标定",
    ),
    ("{e}; image points: {pairs}", "无法标定：{e}；像点：{pairs}"),
    (
        "pair corners of paving, kerbs or markings that are also on the map, spread over the ground",
        "请选地图上也有的铺装、路缘或标线的角点，分散在地面上",
    ),
    ("the GeoJSON file of the city's cells", "城市单元网格的 GeoJSON 文件"),
    ("cannot read the file: {e}", "无法读取文件：{e}"),
    (
        "list its corners in order around the cell; as it is, the area of the cell is undefined",
        "请沿边界依次列出顶点；目前单元网格的面积不确定",
    ),
    (
        "assign the area to one of them; until then, it would be filed under the lower code",
        "请把该处划归其中之一；在此之前按较小的代码立案",
    ),
    (
        "assign the area to a cell, unless the gap is intended; detections there are not filed (outside_grid)",
        "除非有意留空，请把该处划入某个单元网格；那里的目标不立案（outside_grid）",
    ),
    ("{g}, although cells surround it", "{g}（四周都有单元网格）"),
    (
        "shared borders {what} slightly in {count} places, {area_m2} m² in total; the largest, {area} m², is at [{lon}, {lat}]",
        "相邻边界有 {count} 处略有出入（{what}），共 {area_m2} 平方米；最大一处 {area} 平方米，位于 [{lon}, {lat}]",
    ),
    (
        "harmless if caused by rounding to six decimals; to avoid it, export more decimals from cells that share corners",
        "若由六位小数取整造成则无妨；如要避免，请从共用顶点的网格导出更多小数位",
    ),
    (
        "is a local plane in metres, but `place` needs longitude and latitude",
        "是以米为单位的平面坐标，而 `place` 需要经纬度",
    ),
    (
        "set it in calibration.crs, for the point pairs only",
        "请只在 calibration.crs 中为点对设置",
    ),
    (
        "is {residual} m from where the other pairs predict it",
        "与其他点对推算的位置相差 {residual} 米",
    ),
    (
        "check that its image and ground points are the same spot; `gridwatch calibrate` draws them",
        "请核对像点与地面点是否同一处；`gridwatch calibrate` 可画出它们",
    ),
    ("lon and lat are swapped", "经度与纬度填反了"),
    (
        "if it comes from a Chinese web map, set the camera's crs = \"GCJ-02\"; otherwise use a point on the ground that the view shows",
        "坐标若取自国内网络地图，请设摄像机的 crs = \"GCJ-02\"；否则请用画面中地面上的一点",
    ),
    (
        "use a point on the ground that the view shows, in the grid's coordinate system or in the one given by the camera's crs",
        "请用画面中地面上的一点，坐标系与网格一致，或由摄像机的 crs 指定",
    ),
    (
        "outside every cell of the grid: detections placed here are not filed (outside_grid)",
        "不在任何单元网格内：定位于此的目标不立案（outside_grid）",
    ),
    ("and {more} more faults of this kind", "另有 {more} 处同类错误"),
    ("none: nothing is watched", "没有摄像机：目前什么也不监控"),
    (
        "add cameras on the console (Wall, Add a camera) or as [[cameras]]",
        "请在控制台添加摄像机（监控墙，添加摄像机），或写成 [[cameras]]",
    ),
    ("overlap", "重叠"),
    ("leave gaps", "留有空隙"),
    (
        "no cell covers {area} m² at [{lon}, {lat}]",
        "[{lon}, {lat}] 处有 {area} 平方米不属于任何单元网格",
    ),
    (
        "not a GeoJSON FeatureCollection: {detail}",
        "不是 GeoJSON FeatureCollection：{detail}",
    ),
    (
        "unsupported crs {configured}: convert the grid and state EPSG:4490 or EPSG:4326",
        "不支持坐标系 {configured}：请转换网格并写明 EPSG:4490 或 EPSG:4326",
    ),
    (
        "the file does not state its CRS: ask its owner which one it uses, then add \"crs\": {\"type\": \"name\", \"properties\": {\"name\": \"{expected}\"}} beside \"type\": \"FeatureCollection\"",
        "文件没有写明坐标系：请向提供方确认，再在 \"type\": \"FeatureCollection\" 旁加上 \"crs\": {\"type\": \"name\", \"properties\": {\"name\": \"{expected}\"}}",
    ),
    (
        "the file states {stated} but the configuration {expected}: convert the file or correct the configuration",
        "文件写的是 {stated}，配置写的是 {expected}：请转换文件或更正配置",
    ),
    (
        "code_pattern `{pattern}` is not a valid regular expression: {detail}",
        "code_pattern `{pattern}` 不是有效的正则表达式：{detail}",
    ),
    (
        "the file contains no cells: export the unit cells as polygons",
        "文件中没有单元网格：请把单元网格导出为多边形",
    ),
    (
        "features[{feature}] (code {code}): {fault}",
        "features[{feature}]（代码 {code}）：{fault}",
    ),
    ("features[{feature}]: {fault}", "features[{feature}]：{fault}"),
    (
        "no property {property}: name the one that holds the code in code_property",
        "没有属性 {property}：请在 code_property 中写存放代码的属性",
    ),
    (
        "property {property} is {found}, but a code must be a string: export it as text",
        "属性 {property} 的值是 {found}，而代码必须是文本：请按文本导出",
    ),
    (
        "the code does not match `{pattern}`: correct the code, or code_pattern",
        "代码不符合 `{pattern}`：请更正代码或 code_pattern",
    ),
    (
        "features[{first}] has the same code: merge the two into a MultiPolygon, or correct one",
        "与 features[{first}] 代码相同：请合并为 MultiPolygon，或更正其中之一",
    ),
    (
        "the geometry is {found}; a cell must be a Polygon or a MultiPolygon",
        "几何类型是 {found}；单元网格必须是 Polygon 或 MultiPolygon",
    ),
    (
        "polygon {polygon}, ring {ring} has {positions} positions; a ring needs 4 or more, the last equal to the first",
        "多边形 {polygon} 的环 {ring} 只有 {positions} 个点；至少需要 4 个，且末点与首点相同",
    ),
    (
        "polygon {polygon}, ring {ring} is not closed: repeat its first position at its end",
        "多边形 {polygon} 的环 {ring} 没有闭合：请在末尾重复首点",
    ),
    (
        "polygon {polygon}, ring {ring} has the position {position}, which is not [lon, lat] in degrees: the order may be swapped, or the file projected to metres",
        "多边形 {polygon} 的环 {ring} 中，{position} 不是以度为单位的 [经度, 纬度]：可能顺序颠倒，或文件用的是以米为单位的投影坐标",
    ),
    (
        "cell {cell}, polygon {polygon}, ring {ring} has no area",
        "单元网格 {cell} 的多边形 {polygon}、环 {ring} 面积为零",
    ),
    (
        "cell {cell}, polygon {polygon}, ring {ring} crosses itself at [{lon}, {lat}] (edges {a} and {b})",
        "单元网格 {cell} 的多边形 {polygon}、环 {ring} 在 [{lon}, {lat}] 处自相交（边 {a} 与 {b}）",
    ),
    (
        "cells {a} and {b} overlap by {area} m² at [{lon}, {lat}]",
        "单元网格 {a} 与 {b} 在 [{lon}, {lat}] 处重叠 {area} 平方米",
    ),
    (
        "unknown coordinate reference system {name}: use EPSG:4490, EPSG:4326, GCJ-02, or local:LON,LAT,BEARING (a plane in metres: its origin in EPSG:4490, and where its y axis points in degrees from north)",
        "没有坐标系 {name}：请用 EPSG:4490、EPSG:4326、GCJ-02，或 local:经度,纬度,方位角（以米为单位的平面：原点为 EPSG:4490 坐标，方位角为 y 轴偏离正北的度数）",
    ),
    (
        "invalid local plane {plane}: use local:LON,LAT,BEARING in degrees, such as local:120.001,30.0009,12.5",
        "平面坐标系 {plane} 无效：请写 local:经度,纬度,方位角，单位为度，如 local:120.001,30.0009,12.5",
    ),
    (
        "[{x}, {y}] is not a valid position in {crs}: {why}",
        "[{x}, {y}] 不是 {crs} 中的有效位置：{why}",
    ),
    (
        "a local plane reaches 10 km from its origin; are these degrees?",
        "平面坐标系的范围为原点周围 10 公里；这是否是以度为单位的坐标？",
    ),
    ("write [lon, lat] in degrees", "请写以度为单位的 [经度, 纬度]"),
];
